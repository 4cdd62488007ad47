-- The tables of a covenq journal. Run by whoever may create a schema; the roles of covenq need the GRANTs alone.
-- What the tables hold and promise is in covenq-journal(5).

CREATE SCHEMA covenq;

-- One row: where the chain ends, and who may go on with it. Every append updates it, so that appends come one after another.
CREATE TABLE covenq.head (
  one           boolean PRIMARY KEY DEFAULT true CHECK (one),
  version       integer NOT NULL,             -- of this schema
  journal       text    NOT NULL,             -- the journal's id: 32 hex digits
  epoch         text    NOT NULL,
  seq           bigint  NOT NULL,             -- the newest record; 0: there is none
  sum           text    NOT NULL,             -- its sum
  link          text    NOT NULL,             -- the `prev` of the next record: `sum`, or that of a header nothing stands behind
  segment       bigint  NOT NULL,             -- the first seq of the segment that is written to
  segment_bytes bigint  NOT NULL,             -- what its lines would take in a file
  salt          text    NOT NULL,
  writer        text    NOT NULL DEFAULT '',  -- the token of the process that may append, and which of its connections
  closed        text    NOT NULL DEFAULT '',  -- why nobody may: it is being copied here, or was moved elsewhere
  floor         integer NOT NULL DEFAULT 1,   -- the oldest build of covenq that may have the journal open
  ceiling       integer NOT NULL DEFAULT 1    -- the newest that has led
) WITH (fillfactor = 10);

-- Who may write, by this server's clock. Apart from head, so that renewing it waits for no append.
CREATE TABLE covenq.lease (
  one     boolean PRIMARY KEY DEFAULT true CHECK (one),
  holder  text        NOT NULL DEFAULT '',  -- the token of a process
  node    text        NOT NULL DEFAULT '',  -- the id of its node
  name    text        NOT NULL DEFAULT '',  -- what it is called
  address text        NOT NULL DEFAULT '',  -- where it takes deliveries
  since   timestamptz NOT NULL DEFAULT '-infinity',
  until   timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 10);

-- Who has the journal open. For people: nothing of what is promised rests on it.
CREATE TABLE covenq.node (
  id      text PRIMARY KEY,
  name    text        NOT NULL,
  address text        NOT NULL,
  since   timestamptz NOT NULL,
  seen    timestamptz NOT NULL,
  stopped boolean     NOT NULL,
  about   text        NOT NULL
) WITH (fillfactor = 10);

CREATE TABLE covenq.segment (
  first  bigint PRIMARY KEY,
  header bytea  NOT NULL                      -- format 1's header line, without its newline
);

CREATE TABLE covenq.record (
  seq      bigint PRIMARY KEY,
  before   bigint NOT NULL,                   -- the subject's record before this one; 0: there was none
  subject  text COLLATE "C" NOT NULL,
  attempt  text COLLATE "C" NOT NULL,         -- of the append that it came with
  sum      text COLLATE "C" NOT NULL,
  envelope bytea  NOT NULL,                   -- the bytes that are hashed: format 1's line up to its sum
  UNIQUE (subject, before)                    -- one record can follow another one once
);

-- What can be erased. A record that never had any has no row here.
CREATE TABLE covenq.content (
  seq     bigint PRIMARY KEY REFERENCES covenq.record,
  about   bytea,
  payload bytea,
  erasure bigint                              -- which one took it away
);
ALTER TABLE covenq.content ALTER about SET STORAGE EXTENDED, ALTER payload SET STORAGE EXTERNAL;

-- Erasures, and the record that names each. So content is taken away before the head is locked, in the same transaction.
CREATE TABLE covenq.erasure (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  by bigint NOT NULL
);

-- Append the entries of several calls, each call all or none, and say what became of each.
--
-- Per call: sizes (its entries), attempts, repeated (whether it was sent before). Per entry: named (which of `names` is its
-- subject), expects, middles (the envelope between "synced" and "prev"), lengths (bytes of its line, for the segment's end), abouts,
-- payloads. `fresh` is a salt for a new segment, which begins when the old one is full, or in another epoch if one is given: with the
-- first entry that is appended, so that none is empty, and a call that is sent again finds it begun.
--
-- Out, per call: firsts (the seq of its first entry; 0 if it was refused), conflicts (which of `names` is not as expected; 0 if all
-- are), lasts (the newest seq of that). The rest is the head as it is now, and what the commit waits for.
--
-- The head is updated even if every call is refused: the commit then writes, and waits for replication as any, so that a refusal
-- rests on replicated records too, and so does the answer to a repeated call, whose records a commit before this one had written.
CREATE FUNCTION covenq.append(
  me text, sizes integer[], attempts text[], repeated boolean[], names text[], named integer[], expects bigint[],
  middles bytea[], lengths integer[], abouts bytea[], payloads bytea[], fresh text, new_epoch text, segment_max bigint,
  OUT firsts bigint[], OUT conflicts integer[], OUT lasts bigint[], OUT before bigint, OUT newest bigint, OUT newest_sum text,
  OUT now_epoch text, OUT commits text, OUT standbys text
) LANGUAGE plpgsql AS $$
DECLARE
  h covenq.head;
  moment text;
  known bigint[];       -- the newest seq of each name, as it is while the calls are gone through
  seqs bigint[];        -- of each entry that is appended
  befores bigint[];
  envelopes bytea[];
  sums text[];
  owners text[];
  total bigint;
  begins boolean;       -- whether a segment begins with the first entry that is appended
  start integer := 0;   -- entries of the calls before
  own bigint;
  k integer;
BEGIN
  SELECT * INTO h FROM covenq.head FOR UPDATE;
  IF h.closed <> '' THEN
    RAISE EXCEPTION '%', h.closed USING ERRCODE = 'CQ003';
  END IF;
  IF h.writer IS DISTINCT FROM me THEN
    RAISE EXCEPTION 'another process writes this journal' USING ERRCODE = 'CQ001';
  END IF;
  IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') OR current_setting('fsync') <> 'on' THEN
    RAISE EXCEPTION 'commits do not wait for the disk: fsync is %, synchronous_commit is %',
      current_setting('fsync'), current_setting('synchronous_commit') USING ERRCODE = 'CQ004';
  END IF;
  moment := to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
  before := h.seq;
  SELECT array_agg(coalesce(found.seq, 0) ORDER BY place) INTO known
    FROM unnest(names) WITH ORDINALITY AS asked (name, place)
    LEFT JOIN LATERAL (SELECT r.seq FROM covenq.record r WHERE r.subject = name ORDER BY r.before DESC LIMIT 1) AS found ON true;
  firsts := array_fill(0::bigint, ARRAY[cardinality(sizes)]);
  conflicts := array_fill(0, ARRAY[cardinality(sizes)]);
  lasts := array_fill(0::bigint, ARRAY[cardinality(sizes)]);
  seqs := array_fill(NULL::bigint, ARRAY[cardinality(named)]);
  befores := seqs;
  sums := array_fill(NULL::text, ARRAY[cardinality(named)]);
  owners := sums;
  envelopes := array_fill(NULL::bytea, ARRAY[cardinality(named)]);
  SELECT coalesce(sum(length), 0) INTO total FROM unnest(lengths) AS length;
  begins := coalesce(new_epoch <> h.epoch, false) OR (h.segment_bytes > 0 AND h.segment_bytes + total > segment_max);

  FOR n IN 1 .. cardinality(sizes) LOOP
    IF repeated[n] AND sizes[n] > 0 THEN
      SELECT min(r.seq) INTO own FROM covenq.record r WHERE r.subject = names[named[start + 1]] AND r.attempt = attempts[n];
      firsts[n] := coalesce(own, 0);
    END IF;
    IF firsts[n] = 0 THEN
      FOR k IN start + 1 .. start + sizes[n] LOOP
        IF expects[k] <> known[named[k]] THEN
          conflicts[n] := named[k];
          lasts[n] := known[named[k]];
          EXIT;
        END IF;
      END LOOP;
      IF conflicts[n] = 0 THEN
        IF begins AND sizes[n] > 0 THEN
          h.epoch := coalesce(new_epoch, h.epoch);
          h := covenq.begin_segment(h, fresh);
          begins := false;
        END IF;
        firsts[n] := h.seq + 1;
        FOR k IN start + 1 .. start + sizes[n] LOOP
          h.seq := h.seq + 1;
          seqs[k] := h.seq;
          befores[k] := known[named[k]];
          owners[k] := attempts[n];
          envelopes[k] := convert_to('{"seq":' || h.seq || ',"at":"' || moment || '","synced":' || before || ',', 'UTF8')
            || middles[k] || convert_to(',"prev":"' || h.link || '"', 'UTF8');
          h.sum := encode(sha256(convert_to(h.salt, 'UTF8') || envelopes[k]), 'hex');
          h.link := h.sum;
          sums[k] := h.sum;
          known[named[k]] := h.seq;
          h.segment_bytes := h.segment_bytes + lengths[k];
        END LOOP;
      END IF;
    END IF;
    start := start + sizes[n];
  END LOOP;

  INSERT INTO covenq.record (seq, before, subject, attempt, sum, envelope)
    SELECT e.seq, e.before, names[e.named], e.owner, e.sum, e.envelope
    FROM unnest(seqs, befores, named, owners, sums, envelopes) AS e (seq, before, named, owner, sum, envelope) WHERE e.seq IS NOT NULL;
  INSERT INTO covenq.content (seq, about, payload)
    SELECT e.seq, e.about, e.payload FROM unnest(seqs, abouts, payloads) AS e (seq, about, payload)
    WHERE e.seq IS NOT NULL AND (e.about IS NOT NULL OR e.payload IS NOT NULL);
  UPDATE covenq.head SET epoch = h.epoch, seq = h.seq, sum = h.sum, link = h.link,
    segment = h.segment, segment_bytes = h.segment_bytes, salt = h.salt;
  newest := h.seq;
  newest_sum := h.sum;
  now_epoch := h.epoch;
  commits := current_setting('synchronous_commit');
  standbys := current_setting('synchronous_standby_names');
END $$;

-- The head behind a new segment, whose header is a link of the chain, and brings a new salt.
CREATE FUNCTION covenq.begin_segment(h covenq.head, fresh text) RETURNS covenq.head LANGUAGE plpgsql AS $$
DECLARE
  envelope text := '{"format":1,"journal":"' || h.journal || '","epoch":"' || h.epoch || '","first":' || h.seq + 1
    || ',"after":' || h.seq || ',"prev":"' || h.sum || '","salt":"' || fresh || '"';
BEGIN
  IF h.segment = h.seq + 1 THEN
    RAISE EXCEPTION 'the segment that begins at seq % has no record yet', h.segment USING ERRCODE = 'CQ002';
  END IF;
  h.salt := fresh;
  h.link := encode(sha256(convert_to(fresh || envelope, 'UTF8')), 'hex');
  h.segment := h.seq + 1;
  h.segment_bytes := 0;
  INSERT INTO covenq.segment VALUES (h.segment, convert_to(envelope || ',"sum":"' || h.link || '"}', 'UTF8'));
  RETURN h;
END $$;
