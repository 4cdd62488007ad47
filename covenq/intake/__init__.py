"""Receiving deliveries: admission, validation, replay detection, one durable append before the answer, refusals.

A refusal is a status, a word for machines and a sentence for people. Each part of it has one module:

- The word and the sentence are where it is refused: `receive` (and `covenq.github.request`, which raises BadRequest) for a
  delivery, `admission` for the intake as a whole, `covenq.http` for what never becomes a delivery.
- `refusal_evidence` reads from the request what is safe to keep about it.
- `refusal_log` counts refusals and keeps the newest in a bounded file.
- `refusal_hints` has one table from the word to what an operator does about it.

Nothing here knows an HTTP server. May import `routing`, `github`, `config` and the layers below them, but not `state`.
"""
