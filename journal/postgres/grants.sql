-- What covenq's roles need, and no more: :writer is whom `covenq serve` connects as, :reader who may only look (commands without a
-- daemon that show, and `covenq verify`). Run it as the role that owns the tables; may be repeated.

GRANT USAGE ON SCHEMA covenq TO :writer;
GRANT SELECT ON ALL TABLES IN SCHEMA covenq TO :writer;
GRANT INSERT ON covenq.segment, covenq.record TO :writer;            -- never changed, never removed
GRANT INSERT, UPDATE ON covenq.content, covenq.erasure TO :writer;   -- what can be erased, and what erased it
GRANT UPDATE ON covenq.head, covenq.lease TO :writer;
GRANT INSERT, UPDATE, DELETE ON covenq.node TO :writer;              -- who has the journal open

-- As who may make roles. Whom you make a member of it may look: GRANT :reader TO somebody.
DO $$ BEGIN IF to_regrole(':reader') IS NULL THEN CREATE ROLE :reader NOLOGIN; END IF; END $$;
GRANT USAGE ON SCHEMA covenq TO :reader;
GRANT SELECT ON ALL TABLES IN SCHEMA covenq TO :reader;

-- As a superuser: how far the standbys are.
GRANT pg_read_all_stats TO :writer;
