"""The PostgreSQL engine: format 1's records in the tables of a database, written by one process at a time.

Why an answered append is durable: it is one call of `covenq.append`, a transaction of its own, and the answer is given when its
commit has returned without a warning. What that rests on is the server's: `server` refuses one whose commits don't wait for its
disk, and `durability` says `replicated` only where the append's own transaction saw synchronous standbys and a commit that waits
for them. A commit that returns with a warning, an error in the connection, or nothing at all, may have been recorded or not: the
call is sent again under the same attempt id, which the function looks up.

Why there is one writer: a lease by the server's clock (`lease`) says who may take the journal, and every append checks in its own
transaction that nobody else has taken it since. The head row's lock makes appends come one after another, so seqs are gapless and
the chain is whole; it is updated by every append, also one that is refused, so that each answer waits for what it rests on.

Why what readers see is durable: a transaction that waits for its standbys is not visible to others yet. One whose wait was cut
short is: so a journal's own readers are told the head (`Reader.advance`), and see no further.

One line per module, highest layer first:

- `open` opens a journal to write it; `engine` is the journal that it gives; `reader` is one for reading only
- `verify` checks every row; `erase` takes content out; `lease` is who may write
- `committer` sends batches in its thread, holds what comes while the server is away, and sends again what wasn't answered;
  `call` is what it sends
- `schema` makes the tables, `schema.sql` has them, and the function that appends, `upgrade.sql` what older ones lack; `builds` is
  which covenq may share them with which; `server` is what is asked of a server
- `rows` reads records out of tables, and verifies them; `connections` connects, and says what an error means
"""
