-- From tables of version 1 to those of version 2, by whoever owns them. Nothing that is recorded is touched.
ALTER TABLE covenq.head ADD COLUMN floor integer NOT NULL DEFAULT 1, ADD COLUMN ceiling integer NOT NULL DEFAULT 1;
ALTER TABLE covenq.lease ADD COLUMN name text NOT NULL DEFAULT '', ADD COLUMN address text NOT NULL DEFAULT '',
  ADD COLUMN since timestamptz NOT NULL DEFAULT '-infinity';
CREATE TABLE covenq.node (
  id      text PRIMARY KEY,
  name    text        NOT NULL,
  address text        NOT NULL,
  since   timestamptz NOT NULL,
  seen    timestamptz NOT NULL,
  stopped boolean     NOT NULL,
  about   text        NOT NULL
) WITH (fillfactor = 10);
UPDATE covenq.head SET version = 2 WHERE version = 1;
