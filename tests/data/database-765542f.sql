-- A database of version 765542f, as pg_dump --inserts wrote it, without its comments and its \restrict lines.
--
-- That version ran every service in one process with TALLY_PARTITION_COUNT=4, counted by its client, and made dead letters of
-- the three videos "odd ..." (by a constraint on rollup_minute, dropped afterwards), of which its command line dropped one and
-- replayed another. It was killed, started with a flush interval of 30 s, counted nine more events, and was killed again:
-- these are in the journal and in no rollup, and two logs are open.

-- Dumped from database version 18.6
-- Dumped by pg_dump version 18.6

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

CREATE FUNCTION public.mean_of(total double precision, n bigint) RETURNS double precision
    LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN (abs(total) < (0.00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001)::double precision) THEN (0)::double precision ELSE (total / (n)::double precision) END;

CREATE FUNCTION public.square_of(distance double precision) RETURNS double precision
    LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN (abs(distance) < (0.000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001)::double precision) THEN (0)::double precision ELSE (distance * distance) END;

SET default_tablespace = '';

SET default_table_access_method = heap;

CREATE TABLE public.checkpoint (
    log_id bigint NOT NULL,
    consumer text NOT NULL,
    applied_seq bigint DEFAULT 0 NOT NULL,
    generation integer NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.cluster (
    only_row boolean DEFAULT true NOT NULL,
    cluster_id uuid DEFAULT gen_random_uuid() NOT NULL,
    partition_count smallint NOT NULL,
    epoch bigint DEFAULT 1 NOT NULL,
    floor uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT cluster_only_row_check CHECK (only_row),
    CONSTRAINT cluster_partition_count_check CHECK (((partition_count >= 1) AND (partition_count <= 4096)))
);

CREATE TABLE public.dead_letter (
    request_id uuid NOT NULL,
    partition smallint NOT NULL,
    log_id bigint,
    seq bigint,
    events integer NOT NULL,
    reason text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    received_at timestamp with time zone NOT NULL,
    request_hash bigint NOT NULL,
    payload bytea NOT NULL,
    state text DEFAULT 'waiting'::text NOT NULL,
    generation integer,
    decided_at timestamp with time zone,
    note text DEFAULT ''::text NOT NULL,
    CONSTRAINT dead_letter_check CHECK (((log_id IS NULL) = (seq IS NULL))),
    CONSTRAINT dead_letter_check1 CHECK (((state = 'waiting'::text) = (decided_at IS NULL))),
    CONSTRAINT dead_letter_check2 CHECK (((state = 'replayed'::text) = (generation IS NOT NULL))),
    CONSTRAINT dead_letter_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'replayed'::text, 'dropped'::text])))
);
ALTER TABLE ONLY public.dead_letter ALTER COLUMN payload SET STORAGE EXTERNAL;

CREATE TABLE public.flush_log (
    log_id bigint NOT NULL,
    from_seq bigint NOT NULL,
    to_seq bigint NOT NULL,
    generation integer NOT NULL,
    events bigint NOT NULL,
    cells integer NOT NULL,
    flushed_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT flush_log_check CHECK ((from_seq < to_seq))
);

CREATE TABLE public.generation (
    generation integer NOT NULL,
    sealed_at timestamp with time zone
);

CREATE TABLE public.heartbeat (
    log_id bigint NOT NULL,
    beat bigint DEFAULT 0 NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.journal (
    request_id uuid NOT NULL,
    partition smallint NOT NULL,
    log_id bigint NOT NULL,
    seq bigint NOT NULL,
    received_at timestamp with time zone NOT NULL,
    events integer NOT NULL,
    request_hash bigint NOT NULL,
    payload bytea NOT NULL,
    CONSTRAINT journal_events_check CHECK ((events > 0))
)
PARTITION BY RANGE (request_id);
ALTER TABLE ONLY public.journal ALTER COLUMN payload SET STORAGE EXTERNAL;

CREATE TABLE public.journal_2026_11_29 (
    request_id uuid CONSTRAINT journal_request_id_not_null NOT NULL,
    partition smallint CONSTRAINT journal_partition_not_null NOT NULL,
    log_id bigint CONSTRAINT journal_log_id_not_null NOT NULL,
    seq bigint CONSTRAINT journal_seq_not_null NOT NULL,
    received_at timestamp with time zone CONSTRAINT journal_received_at_not_null NOT NULL,
    events integer CONSTRAINT journal_events_not_null NOT NULL,
    request_hash bigint CONSTRAINT journal_request_hash_not_null NOT NULL,
    payload bytea CONSTRAINT journal_payload_not_null NOT NULL,
    CONSTRAINT journal_events_check CHECK ((events > 0))
);
ALTER TABLE ONLY public.journal_2026_11_29 ALTER COLUMN payload SET STORAGE EXTERNAL;

CREATE TABLE public.journal_2026_11_30 (
    request_id uuid CONSTRAINT journal_request_id_not_null NOT NULL,
    partition smallint CONSTRAINT journal_partition_not_null NOT NULL,
    log_id bigint CONSTRAINT journal_log_id_not_null NOT NULL,
    seq bigint CONSTRAINT journal_seq_not_null NOT NULL,
    received_at timestamp with time zone CONSTRAINT journal_received_at_not_null NOT NULL,
    events integer CONSTRAINT journal_events_not_null NOT NULL,
    request_hash bigint CONSTRAINT journal_request_hash_not_null NOT NULL,
    payload bytea CONSTRAINT journal_payload_not_null NOT NULL,
    CONSTRAINT journal_events_check CHECK ((events > 0))
);
ALTER TABLE ONLY public.journal_2026_11_30 ALTER COLUMN payload SET STORAGE EXTERNAL;

CREATE TABLE public.journal_2026_12_01 (
    request_id uuid CONSTRAINT journal_request_id_not_null NOT NULL,
    partition smallint CONSTRAINT journal_partition_not_null NOT NULL,
    log_id bigint CONSTRAINT journal_log_id_not_null NOT NULL,
    seq bigint CONSTRAINT journal_seq_not_null NOT NULL,
    received_at timestamp with time zone CONSTRAINT journal_received_at_not_null NOT NULL,
    events integer CONSTRAINT journal_events_not_null NOT NULL,
    request_hash bigint CONSTRAINT journal_request_hash_not_null NOT NULL,
    payload bytea CONSTRAINT journal_payload_not_null NOT NULL,
    CONSTRAINT journal_events_check CHECK ((events > 0))
);
ALTER TABLE ONLY public.journal_2026_12_01 ALTER COLUMN payload SET STORAGE EXTERNAL;

CREATE TABLE public.journal_2026_12_02 (
    request_id uuid CONSTRAINT journal_request_id_not_null NOT NULL,
    partition smallint CONSTRAINT journal_partition_not_null NOT NULL,
    log_id bigint CONSTRAINT journal_log_id_not_null NOT NULL,
    seq bigint CONSTRAINT journal_seq_not_null NOT NULL,
    received_at timestamp with time zone CONSTRAINT journal_received_at_not_null NOT NULL,
    events integer CONSTRAINT journal_events_not_null NOT NULL,
    request_hash bigint CONSTRAINT journal_request_hash_not_null NOT NULL,
    payload bytea CONSTRAINT journal_payload_not_null NOT NULL,
    CONSTRAINT journal_events_check CHECK ((events > 0))
);
ALTER TABLE ONLY public.journal_2026_12_02 ALTER COLUMN payload SET STORAGE EXTERNAL;

CREATE TABLE public.log (
    log_id bigint NOT NULL,
    shard text NOT NULL,
    pids integer[] NOT NULL,
    opened_at timestamp with time zone DEFAULT now() NOT NULL,
    floor uuid NOT NULL,
    opening_floor uuid NOT NULL,
    state text DEFAULT 'open'::text NOT NULL,
    CONSTRAINT log_state_check CHECK ((state = ANY (ARRAY['open'::text, 'closed'::text, 'settled'::text])))
);

CREATE TABLE public.rollup_minute (
    generation integer NOT NULL,
    video_id text NOT NULL COLLATE pg_catalog."C",
    event_type text NOT NULL COLLATE pg_catalog."C",
    minute integer NOT NULL,
    count bigint NOT NULL,
    value_count bigint DEFAULT 0 NOT NULL,
    sum double precision DEFAULT 0 NOT NULL,
    min double precision,
    max double precision,
    m2 double precision DEFAULT 0 NOT NULL
)
PARTITION BY LIST (generation);

CREATE TABLE public.rollup_minute_1 (
    generation integer CONSTRAINT rollup_minute_generation_not_null NOT NULL,
    video_id text CONSTRAINT rollup_minute_video_id_not_null NOT NULL COLLATE pg_catalog."C",
    event_type text CONSTRAINT rollup_minute_event_type_not_null NOT NULL COLLATE pg_catalog."C",
    minute integer CONSTRAINT rollup_minute_minute_not_null NOT NULL,
    count bigint CONSTRAINT rollup_minute_count_not_null NOT NULL,
    value_count bigint DEFAULT 0 CONSTRAINT rollup_minute_value_count_not_null NOT NULL,
    sum double precision DEFAULT 0 CONSTRAINT rollup_minute_sum_not_null NOT NULL,
    min double precision,
    max double precision,
    m2 double precision DEFAULT 0 CONSTRAINT rollup_minute_m2_not_null NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.schema_migration (
    name text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE ONLY public.journal ATTACH PARTITION public.journal_2026_11_29 FOR VALUES FROM ('01a22499-f800-0000-0000-000000000000') TO ('01a229c0-5400-0000-0000-000000000000');

ALTER TABLE ONLY public.journal ATTACH PARTITION public.journal_2026_11_30 FOR VALUES FROM ('01a229c0-5400-0000-0000-000000000000') TO ('01a22ee6-b000-0000-0000-000000000000');

ALTER TABLE ONLY public.journal ATTACH PARTITION public.journal_2026_12_01 FOR VALUES FROM ('01a22ee6-b000-0000-0000-000000000000') TO ('01a2340d-0c00-0000-0000-000000000000');

ALTER TABLE ONLY public.journal ATTACH PARTITION public.journal_2026_12_02 FOR VALUES FROM ('01a2340d-0c00-0000-0000-000000000000') TO ('01a23933-6800-0000-0000-000000000000');

ALTER TABLE ONLY public.rollup_minute ATTACH PARTITION public.rollup_minute_1 FOR VALUES IN (1);

--
-- Data for Name: checkpoint; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.checkpoint VALUES (2236099486419266968, 'rollups', 11, 1);
INSERT INTO public.checkpoint VALUES (1385367200106958251, 'rollups', 1, 1);
INSERT INTO public.checkpoint VALUES (358974614090020772, 'rollups', 0, 1);
INSERT INTO public.checkpoint VALUES (2591297353053367372, 'rollups', 1, 1);
INSERT INTO public.checkpoint VALUES (6385226488799639079, 'rollups', 0, 1);

--
-- Data for Name: cluster; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.cluster VALUES (true, '0cb9930f-ee8f-4438-9428-f4bc83d49ebf', 4, 1, '01a226c1-0962-0000-0000-000000000000', '2026-11-30 10:31:46.982131+00');

--
-- Data for Name: dead_letter; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.dead_letter VALUES ('01a22c02-c08c-7ee1-8e5e-ec6f48184c51', 0, 2236099486419266968, 11, 2, 'new row for relation "rollup_minute_1" violates check constraint "odd"
DETAIL:  Failing row contains (1, odd waiting, view, 29933911, 2, 0, 0, null, null, 0).', '2026-11-30 10:31:49.187984+00', '2026-11-30 10:31:47.597024+00', -4813775623067002834, '\x0a0b6f64642077616974696e671204766965772204000000002a0400000000', 'waiting', NULL, NULL, '');
INSERT INTO public.dead_letter VALUES ('01a22c02-c6f2-7830-9411-27297e7afc10', 1, 1385367200106958251, 1, 3, 'new row for relation "rollup_minute_1" violates check constraint "odd"
DETAIL:  Failing row contains (1, odd dropped, view, 29933911, 3, 0, 0, null, null, 0).', '2026-11-30 10:31:50.204904+00', '2026-11-30 10:31:49.239231+00', -6862594563339121325, '\x0a0b6f64642064726f7070656412047669657722060000000000002a06000000000000', 'dropped', NULL, '2026-11-30 10:31:52.580558+00', '');
INSERT INTO public.dead_letter VALUES ('01a22c02-cb0b-7d4a-b688-778bff5d5a99', 1, 2591297353053367372, 1, 4, 'new row for relation "rollup_minute_1" violates check constraint "odd"
DETAIL:  Failing row contains (1, odd replayed, view, 29933911, 4, 0, 0, null, null, 0).', '2026-11-30 10:31:51.237636+00', '2026-11-30 10:31:50.285267+00', -1215321808846471140, '\x0a0c6f6464207265706c61796564120476696577220800000000000000002a080000000000000000', 'replayed', 1, '2026-11-30 10:31:53.317721+00', '');

--
-- Data for Name: flush_log; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.flush_log VALUES (2236099486419266968, 0, 5, 1, 15, 5, '2026-11-30 10:31:49.173188+00');
INSERT INTO public.flush_log VALUES (2236099486419266968, 5, 8, 1, 21, 3, '2026-11-30 10:31:49.177965+00');
INSERT INTO public.flush_log VALUES (2236099486419266968, 8, 9, 1, 3, 1, '2026-11-30 10:31:49.181776+00');
INSERT INTO public.flush_log VALUES (2236099486419266968, 9, 10, 1, 5, 1, '2026-11-30 10:31:49.185116+00');
INSERT INTO public.flush_log VALUES (2236099486419266968, 10, 11, 1, 0, 0, '2026-11-30 10:31:49.187984+00');
INSERT INTO public.flush_log VALUES (1385367200106958251, 0, 1, 1, 0, 0, '2026-11-30 10:31:50.204904+00');
INSERT INTO public.flush_log VALUES (2591297353053367372, 0, 1, 1, 0, 0, '2026-11-30 10:31:51.237636+00');

--
-- Data for Name: generation; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.generation VALUES (1, NULL);

--
-- Data for Name: heartbeat; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.heartbeat VALUES (2236099486419266968, 1);
INSERT INTO public.heartbeat VALUES (1385367200106958251, 1);
INSERT INTO public.heartbeat VALUES (2591297353053367372, 2);
INSERT INTO public.heartbeat VALUES (358974614090020772, 4);
INSERT INTO public.heartbeat VALUES (6385226488799639079, 1);

--
-- Data for Name: journal_2026_11_29; Type: TABLE DATA; Schema: public; Owner: -
--

--
-- Data for Name: journal_2026_11_30; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-c038-7eca-913c-094e0733570c', 0, 2236099486419266968, 1, '2026-11-30 10:31:47.515774+00', 1, -9147128946301663138, '\x0a07766964656f2030120476696577220200002a020000');
INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-c04d-764f-9b6f-bd1d2588432d', 3, 2236099486419266968, 2, '2026-11-30 10:31:47.534945+00', 2, -897451361245454885, '\x0a07766964656f20311204766965772204000000002a0400000000');
INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-c058-7261-b346-65b6643d780e', 0, 2236099486419266968, 3, '2026-11-30 10:31:47.546038+00', 3, -7424761598021734475, '\x0a07766964656f203212047669657722060000000000002a06000000000000');
INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-c064-7775-8e6a-32e2f536e9b5', 3, 2236099486419266968, 4, '2026-11-30 10:31:47.557617+00', 4, -7958555512887375960, '\x0a07766964656f2033120476696577220800000000000000002a080000000000000000');
INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-c068-7cc2-afb1-2c3987fe4b72', 1, 2236099486419266968, 5, '2026-11-30 10:31:47.561637+00', 5, 793281661038472902, '\x0a07766964656f2034120476696577220a000000000000000000002a0a00000000000000000000');
INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-c070-7cc7-89aa-e6cb495444d0', 3, 2236099486419266968, 6, '2026-11-30 10:31:47.569504+00', 6, 8874220885382805614, '\x0a07766964656f2035120476696577220c0000000000000000000000002a0c000000000000000000000000');
INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-c07c-7b09-9545-52c47a8a5928', 2, 2236099486419266968, 7, '2026-11-30 10:31:47.581447+00', 7, -3965836891691850799, '\x0a07766964656f2036120476696577220e00000000000000000000000000002a0e0000000000000000000000000000');
INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-c080-7caa-9114-f6060f84a4e1', 1, 2236099486419266968, 8, '2026-11-30 10:31:47.585105+00', 8, -8305435571555712276, '\x0a07766964656f20371204766965772210000000000000000000000000000000002a1000000000000000000000000000000000');
INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-c084-70bd-8703-1406b2360c76', 0, 2236099486419266968, 9, '2026-11-30 10:31:47.589453+00', 3, -5924763079319998239, '\x0a07766964656f203012077761746368656422060000000000002a060000000000004218000000000000f83f00000000000004400000000000003e40');
INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-c088-784d-92e6-ba39efec7408', 3, 2236099486419266968, 10, '2026-11-30 10:31:47.593002+00', 5, 1880348149612173999, '\x0a07766964656f203112046c696b65220a000000000000000000002a0a00000000000000000000');
INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-c08c-7ee1-8e5e-ec6f48184c51', 0, 2236099486419266968, 11, '2026-11-30 10:31:47.597024+00', 2, -4813775623067002834, '\x0a0b6f64642077616974696e671204766965772204000000002a0400000000');
INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-c6f2-7830-9411-27297e7afc10', 1, 1385367200106958251, 1, '2026-11-30 10:31:49.239231+00', 3, -6862594563339121325, '\x0a0b6f64642064726f7070656412047669657722060000000000002a06000000000000');
INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-cb0b-7d4a-b688-778bff5d5a99', 1, 2591297353053367372, 1, '2026-11-30 10:31:50.285267+00', 4, -1215321808846471140, '\x0a0c6f6464207265706c61796564120476696577220800000000000000002a080000000000000000');
INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-de2e-7799-ad6b-cae000513515', 0, 6385226488799639079, 1, '2026-11-30 10:31:55.184917+00', 2, -1822277662818380720, '\x0a07766964656f20300a07766964656f203912047669657712046c696b652204000001002a0400000100');
INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-de40-7fd9-8cbd-df32268cb4ca', 0, 6385226488799639079, 2, '2026-11-30 10:31:55.201607+00', 1, 408625355058040266, '\x0a07766964656f203912047669657712046c696b65220200002a020100');
INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-de40-7fd9-8cbd-df32268cb4ca', 3, 6385226488799639079, 3, '2026-11-30 10:31:55.201607+00', 1, 408625355058040266, '\x0a07766964656f203112047669657712046c696b65220200002a020000');
INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-de48-7398-8e5d-8d94efc822e9', 0, 6385226488799639079, 4, '2026-11-30 10:31:55.209899+00', 2, -8598103366023065094, '\x0a07766964656f20320a07766964656f203912047669657712046c696b652204000001002a0400000100');
INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-de4c-764d-83b9-42b2e3d021d5', 0, 6385226488799639079, 5, '2026-11-30 10:31:55.21522+00', 1, 5995346500186296020, '\x0a07766964656f203912047669657712046c696b65220200002a020100');
INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-de4c-764d-83b9-42b2e3d021d5', 3, 6385226488799639079, 6, '2026-11-30 10:31:55.21522+00', 1, 5995346500186296020, '\x0a07766964656f203312047669657712046c696b65220200002a020000');
INSERT INTO public.journal_2026_11_30 VALUES ('01a22c02-de51-7924-9ccd-04504d363609', 0, 6385226488799639079, 7, '2026-11-30 10:31:55.218248+00', 1, 5210146790552720947, '\x0a07766964656f2030120777617463686564220200002a02000042080000000000001c40');

--
-- Data for Name: journal_2026_12_01; Type: TABLE DATA; Schema: public; Owner: -
--

--
-- Data for Name: journal_2026_12_02; Type: TABLE DATA; Schema: public; Owner: -
--

--
-- Data for Name: log; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.log VALUES (2236099486419266968, 'vm/26343', '{26402,26403}', '2026-11-30 10:31:47.167868+00', '01a226c0-eb8c-0000-0000-000000000000', '01a226c0-eb8c-0000-0000-000000000000', 'settled');
INSERT INTO public.log VALUES (1385367200106958251, 'vm/26343', '{26492,26493}', '2026-11-30 10:31:48.272937+00', '01a226c0-eb8c-0000-0000-000000000000', '01a226c0-eb8c-0000-0000-000000000000', 'settled');
INSERT INTO public.log VALUES (2591297353053367372, 'vm/26343', '{26532,26533}', '2026-11-30 10:31:49.318515+00', '01a226c0-eb8c-0000-0000-000000000000', '01a226c0-eb8c-0000-0000-000000000000', 'settled');
INSERT INTO public.log VALUES (358974614090020772, 'vm/26343', '{26601,26602}', '2026-11-30 10:31:50.363107+00', '01a226c1-0962-0000-0000-000000000000', '01a226c0-eb8c-0000-0000-000000000000', 'open');
INSERT INTO public.log VALUES (6385226488799639079, 'vm/26719', '{26786,26787}', '2026-11-30 10:31:54.812508+00', '01a226c1-0962-0000-0000-000000000000', '01a226c1-0962-0000-0000-000000000000', 'open');

--
-- Data for Name: rollup_minute_1; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.rollup_minute_1 VALUES (1, 'video 0', 'view', 29933911, 1, 0, 0, NULL, NULL, 0);
INSERT INTO public.rollup_minute_1 VALUES (1, 'video 1', 'view', 29933911, 2, 0, 0, NULL, NULL, 0);
INSERT INTO public.rollup_minute_1 VALUES (1, 'video 2', 'view', 29933911, 3, 0, 0, NULL, NULL, 0);
INSERT INTO public.rollup_minute_1 VALUES (1, 'video 3', 'view', 29933911, 4, 0, 0, NULL, NULL, 0);
INSERT INTO public.rollup_minute_1 VALUES (1, 'video 4', 'view', 29933911, 5, 0, 0, NULL, NULL, 0);
INSERT INTO public.rollup_minute_1 VALUES (1, 'video 5', 'view', 29933911, 6, 0, 0, NULL, NULL, 0);
INSERT INTO public.rollup_minute_1 VALUES (1, 'video 6', 'view', 29933911, 7, 0, 0, NULL, NULL, 0);
INSERT INTO public.rollup_minute_1 VALUES (1, 'video 7', 'view', 29933911, 8, 0, 0, NULL, NULL, 0);
INSERT INTO public.rollup_minute_1 VALUES (1, 'video 0', 'watched', 29933911, 3, 3, 34, 1.5, 30, 523.1666666666665);
INSERT INTO public.rollup_minute_1 VALUES (1, 'video 1', 'like', 29933911, 5, 0, 0, NULL, NULL, 0);
INSERT INTO public.rollup_minute_1 VALUES (1, 'odd replayed', 'view', 29933911, 4, 0, 0, NULL, NULL, 0);

--
-- Data for Name: schema_migration; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.schema_migration VALUES ('0001_counting', '2026-11-30 10:31:46.982131+00');
INSERT INTO public.schema_migration VALUES ('0002_dead_letters', '2026-11-30 10:31:46.982131+00');
INSERT INTO public.schema_migration VALUES ('0003_room_for_updates', '2026-11-30 10:31:46.982131+00');

ALTER TABLE ONLY public.checkpoint
    ADD CONSTRAINT checkpoint_pkey PRIMARY KEY (log_id, consumer);

ALTER TABLE ONLY public.cluster
    ADD CONSTRAINT cluster_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY public.dead_letter
    ADD CONSTRAINT dead_letter_pkey PRIMARY KEY (request_id, partition);

ALTER TABLE ONLY public.flush_log
    ADD CONSTRAINT flush_log_pkey PRIMARY KEY (log_id, to_seq);

ALTER TABLE ONLY public.generation
    ADD CONSTRAINT generation_pkey PRIMARY KEY (generation);

ALTER TABLE ONLY public.heartbeat
    ADD CONSTRAINT heartbeat_pkey PRIMARY KEY (log_id);

ALTER TABLE ONLY public.journal
    ADD CONSTRAINT journal_pkey PRIMARY KEY (request_id, partition);

ALTER TABLE ONLY public.journal_2026_11_29
    ADD CONSTRAINT journal_2026_11_29_pkey PRIMARY KEY (request_id, partition);

ALTER TABLE ONLY public.journal_2026_11_30
    ADD CONSTRAINT journal_2026_11_30_pkey PRIMARY KEY (request_id, partition);

ALTER TABLE ONLY public.journal_2026_12_01
    ADD CONSTRAINT journal_2026_12_01_pkey PRIMARY KEY (request_id, partition);

ALTER TABLE ONLY public.journal_2026_12_02
    ADD CONSTRAINT journal_2026_12_02_pkey PRIMARY KEY (request_id, partition);

ALTER TABLE ONLY public.log
    ADD CONSTRAINT log_pkey PRIMARY KEY (log_id);

ALTER TABLE ONLY public.rollup_minute
    ADD CONSTRAINT rollup_minute_pkey PRIMARY KEY (video_id, event_type, minute, generation);

ALTER TABLE ONLY public.rollup_minute_1
    ADD CONSTRAINT rollup_minute_1_pkey PRIMARY KEY (video_id, event_type, minute, generation);

ALTER TABLE ONLY public.schema_migration
    ADD CONSTRAINT schema_migration_pkey PRIMARY KEY (name);

CREATE INDEX dead_letter_in_order ON public.dead_letter USING btree (state, created_at, request_id, partition);

CREATE INDEX dead_letter_of_log ON public.dead_letter USING btree (log_id, seq);

CREATE INDEX journal_log_seq ON ONLY public.journal USING btree (log_id, seq);

CREATE INDEX journal_2026_11_29_log_id_seq_idx ON public.journal_2026_11_29 USING btree (log_id, seq);

CREATE INDEX journal_2026_11_30_log_id_seq_idx ON public.journal_2026_11_30 USING btree (log_id, seq);

CREATE INDEX journal_2026_12_01_log_id_seq_idx ON public.journal_2026_12_01 USING btree (log_id, seq);

CREATE INDEX journal_2026_12_02_log_id_seq_idx ON public.journal_2026_12_02 USING btree (log_id, seq);

CREATE INDEX log_unsettled ON public.log USING btree (log_id) WHERE (state <> 'settled'::text);

ALTER INDEX public.journal_log_seq ATTACH PARTITION public.journal_2026_11_29_log_id_seq_idx;

ALTER INDEX public.journal_pkey ATTACH PARTITION public.journal_2026_11_29_pkey;

ALTER INDEX public.journal_log_seq ATTACH PARTITION public.journal_2026_11_30_log_id_seq_idx;

ALTER INDEX public.journal_pkey ATTACH PARTITION public.journal_2026_11_30_pkey;

ALTER INDEX public.journal_log_seq ATTACH PARTITION public.journal_2026_12_01_log_id_seq_idx;

ALTER INDEX public.journal_pkey ATTACH PARTITION public.journal_2026_12_01_pkey;

ALTER INDEX public.journal_log_seq ATTACH PARTITION public.journal_2026_12_02_log_id_seq_idx;

ALTER INDEX public.journal_pkey ATTACH PARTITION public.journal_2026_12_02_pkey;

ALTER INDEX public.rollup_minute_pkey ATTACH PARTITION public.rollup_minute_1_pkey;

ALTER TABLE ONLY public.checkpoint
    ADD CONSTRAINT checkpoint_log_id_fkey FOREIGN KEY (log_id) REFERENCES public.log(log_id);

ALTER TABLE ONLY public.flush_log
    ADD CONSTRAINT flush_log_log_id_fkey FOREIGN KEY (log_id) REFERENCES public.log(log_id);

ALTER TABLE ONLY public.heartbeat
    ADD CONSTRAINT heartbeat_log_id_fkey FOREIGN KEY (log_id) REFERENCES public.log(log_id);
