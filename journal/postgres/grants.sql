-- What covenq's roles need, and no more. Run it as the role that owns the tables; :writer is whom `covenq serve` connects as,
-- :reader who may only look (commands without a daemon that show, and `covenq verify`).

GRANT USAGE ON SCHEMA covenq TO :writer, :reader;
GRANT SELECT ON ALL TABLES IN SCHEMA covenq TO :writer, :reader;
GRANT INSERT ON covenq.segment, covenq.record TO :writer;            -- never changed, never removed
GRANT INSERT, UPDATE ON covenq.content, covenq.erasure TO :writer;   -- what can be erased, and what erased it
GRANT UPDATE ON covenq.head, covenq.lease TO :writer;
GRANT pg_read_all_stats TO :writer;                                  -- how far the standbys are; as a superuser
