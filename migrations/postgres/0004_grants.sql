-- The store as the authority: who was granted what. Nobody may touch these tables; three functions do, with their
-- owner's rights, and only tollgate_ingest may call them. Units are 64-bit and stay far below that.
--
-- Who calls commits synchronously: a grant that was told is on the disk.

-- The memory's life: it changes whenever writes may have been lost. One row, because a server forgets for all accounts
-- at once.
CREATE TABLE grant_life (
    is_only BOOLEAN NOT NULL PRIMARY KEY DEFAULT true CHECK (is_only),
    life BIGINT NOT NULL CHECK (life > 0),
    began_at TIMESTAMPTZ NOT NULL,
    learns_until TIMESTAMPTZ NOT NULL,          -- until then claims are taken and nothing is granted
    -- On which timeline and in which transaction the row was written. A promoted standby and a server that was set back
    -- to an earlier point are on another timeline; a row that came from a dump was written by another transaction.
    timeline TEXT NOT NULL,
    written_by BIGINT NOT NULL
);

-- Accounts, by the text of their key: kind:owner:resource:period:start:end, instants in microseconds.
CREATE TABLE grant_accounts (
    account TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    units BIGINT CHECK (units >= 0),            -- the limit; none is unlimited
    version BIGINT NOT NULL,                    -- of the limit
    seeded BOOLEAN NOT NULL,
    learns_until TIMESTAMPTZ NOT NULL DEFAULT '-infinity',
    committed BIGINT NOT NULL DEFAULT 0 CHECK (committed >= 0),
    used BIGINT NOT NULL DEFAULT 0 CHECK (used >= 0),
    tills BIGINT NOT NULL DEFAULT 0 CHECK (tills >= 0),
    expires_at TIMESTAMPTZ                      -- none: never
) WITH (fillfactor = 50);                       -- room for new versions of rows beside the old ones
CREATE INDEX grant_accounts_by_expiry ON grant_accounts (expires_at) WHERE expires_at IS NOT NULL;

-- What each till has claimed of an account; `seed` is what the database knew of one that has not claimed yet.
CREATE TABLE grant_claims (
    account TEXT COLLATE "C" NOT NULL REFERENCES grant_accounts ON DELETE CASCADE,
    till UUID NOT NULL,
    granted BIGINT NOT NULL DEFAULT 0,
    spent BIGINT NOT NULL DEFAULT 0,
    returned BIGINT NOT NULL DEFAULT 0,
    refunded BIGINT NOT NULL DEFAULT 0,
    over BIGINT NOT NULL DEFAULT 0,
    over_returned BIGINT NOT NULL DEFAULT 0,
    seed BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (account, till)
) WITH (fillfactor = 50);

-- What a till may use or has used, and what it has used of it.
CREATE FUNCTION tollgate_committed(claim grant_claims) RETURNS BIGINT LANGUAGE sql IMMUTABLE AS $$
    SELECT GREATEST(0, claim.granted - claim.returned) + GREATEST(0, claim.over - claim.over_returned) + claim.seed
$$;
CREATE FUNCTION tollgate_used(claim grant_claims) RETURNS BIGINT LANGUAGE sql IMMUTABLE AS $$
    SELECT GREATEST(0, claim.spent - claim.refunded) + GREATEST(0, claim.over - claim.over_returned) + claim.seed
$$;

-- A clock that was set back does not make learning longer than it should be.
CREATE FUNCTION tollgate_learns(learns_until TIMESTAMPTZ, at TIMESTAMPTZ, learn_for INTERVAL) RETURNS BOOLEAN
LANGUAGE sql IMMUTABLE AS $$
    SELECT learns_until > at AND learns_until <= at + learn_for
$$;

-- How far this server has written, as a number.
CREATE FUNCTION tollgate_wal() RETURNS BIGINT LANGUAGE sql AS $$
    SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint
$$;

-- The life, begun anew if there is none or if anything may be lost since: also when who asks has seen more written in
-- this life than there is. `more`: who asks has more to claim, and is waited for.
--
-- Always the first row that a transaction changes, so that nobody waits for another in a circle.
CREATE FUNCTION tollgate_life(learn_for INTERVAL, seen_life BIGINT, seen_wal BIGINT, more BOOLEAN) RETURNS grant_life
LANGUAGE plpgsql AS $$
DECLARE
    timeline_now TEXT := left(pg_walfile_name(pg_current_wal_lsn()), 8);
    known grant_life;
    is_whole BOOLEAN;
    at TIMESTAMPTZ;
BEGIN
    FOR attempt IN 1..2 LOOP
        -- A row's transaction is known by its last 32 bits.
        SELECT * INTO known FROM grant_life
        WHERE timeline = timeline_now AND xmin::text::bigint = written_by & 4294967295
            AND (life <> seen_life OR seen_wal <= tollgate_wal());
        is_whole := FOUND;
        EXIT WHEN is_whole OR attempt = 2;
        -- Others may be about to do the same.
        PERFORM pg_advisory_xact_lock(1953459308, 3);
    END LOOP;
    at := clock_timestamp();
    IF NOT is_whole THEN
        INSERT INTO grant_life AS before (life, began_at, learns_until, timeline, written_by)
        VALUES ((extract(epoch FROM at) * 1000000)::bigint, at, at + learn_for, timeline_now,
            pg_current_xact_id()::text::bigint)
        ON CONFLICT (is_only) DO UPDATE SET life = GREATEST(excluded.life, before.life + 1),
            began_at = excluded.began_at, learns_until = excluded.learns_until, timeline = excluded.timeline,
            written_by = excluded.written_by
        RETURNING * INTO known;
        PERFORM pg_notify('tollgate_news', 'reborn');
    ELSIF more AND tollgate_learns(known.learns_until, at, learn_for) AND known.learns_until < at + learn_for / 2 THEN
        UPDATE grant_life SET learns_until = at + learn_for, written_by = pg_current_xact_id()::text::bigint
        WHERE life = known.life RETURNING * INTO known;
    END IF;
    RETURN known;
END $$;

-- The account, locked, made if it is new: as it was, and as it is with the newer limit.
CREATE FUNCTION tollgate_open_account(
    name TEXT, asked_units BIGINT, asked_version BIGINT, is_seeded BOOLEAN, expiry TIMESTAMPTZ,
    OUT known grant_accounts, OUT held grant_accounts, OUT is_new BOOLEAN)
LANGUAGE plpgsql AS $$
BEGIN
    is_new := false;
    LOOP
        SELECT * INTO known FROM grant_accounts WHERE account = name FOR UPDATE;
        EXIT WHEN FOUND;
        INSERT INTO grant_accounts (account, units, version, seeded, expires_at)
        VALUES (name, asked_units, asked_version, is_seeded, expiry) ON CONFLICT DO NOTHING;
        is_new := FOUND;
    END LOOP;
    held := known;
    -- Two gateways may read one version at different times, and a limit may end by the clock: then the later message
    -- counts.
    IF asked_version >= known.version THEN
        held.units := asked_units;
        held.version := asked_version;
    END IF;
END $$;

-- Takes the claims of tills, and grants what they ask for. Arrays of the same length, one place for each question; the
-- answers say which. `learn_micros` is how long a new life learns.
CREATE FUNCTION tollgate_renew(
    learn_micros BIGINT, seen_life BIGINT, seen_wal BIGINT, more BOOLEAN,
    accounts TEXT[], expiries TIMESTAMPTZ[], starts TIMESTAMPTZ[], limits BIGINT[], versions BIGINT[], tills UUID[],
    granted BIGINT[], spent BIGINT[], returned BIGINT[], refunded BIGINT[], over BIGINT[], over_returned BIGINT[],
    targets BIGINT[], leasts BIGINT[])
RETURNS TABLE (
    place BIGINT, is_seeded BOOLEAN, in_life BIGINT, now_granted BIGINT, remaining BIGINT, idle_elsewhere BIGINT,
    used_elsewhere BIGINT, is_learning BOOLEAN, wal BIGINT)
LANGUAGE plpgsql SECURITY DEFINER AS $$
#variable_conflict use_column
DECLARE
    learn_for INTERVAL := learn_micros * interval '1 microsecond';
    book grant_life := tollgate_life(learn_for, seen_life, seen_wal, more);
    at TIMESTAMPTZ := clock_timestamp();
    asked RECORD;
    opened RECORD;
    before grant_accounts;
    held grant_accounts;
    claim grant_claims;
    told grant_claims;
    is_claimed BOOLEAN;
    had_left BOOLEAN;
    is_short BOOLEAN;
    wanted BIGINT;
    least BIGINT;
    units BIGINT;
BEGIN
    FOR asked IN
        SELECT * FROM unnest(accounts, expiries, starts, limits, versions, tills, granted, spent, returned, refunded,
            over, over_returned, targets, leasts) WITH ORDINALITY AS questions(account, expires_at, starts_at, units,
            version, till, granted, spent, returned, refunded, over, over_returned, target, least, place)
        ORDER BY account COLLATE "C", place
    LOOP
        -- Tills and servers may disagree on when a window began. One that began a minute after the life is certainly
        -- younger than it; others are seeded, which only costs a question.
        opened := tollgate_open_account(asked.account, asked.units, asked.version,
            asked.starts_at > book.began_at + interval '1 minute', asked.expires_at);
        before := opened.known;
        held := opened.held;
        had_left := opened.is_new OR before.units IS NULL OR before.units > before.committed;

        -- Each counter only rises: what is older than what is known changes nothing.
        SELECT * INTO claim FROM grant_claims WHERE account = asked.account AND till = asked.till;
        is_claimed := FOUND;
        told := claim;
        told.account := asked.account;
        told.till := asked.till;
        told.granted := GREATEST(claim.granted, asked.granted);
        told.spent := GREATEST(claim.spent, asked.spent);
        told.returned := GREATEST(claim.returned, asked.returned);
        told.refunded := GREATEST(claim.refunded, asked.refunded);
        told.over := GREATEST(claim.over, asked.over);
        told.over_returned := GREATEST(claim.over_returned, asked.over_returned);
        told.seed := 0;
        held.committed := held.committed + tollgate_committed(told);
        held.used := held.used + tollgate_used(told);
        IF is_claimed THEN
            held.committed := held.committed - tollgate_committed(claim);
            held.used := held.used - tollgate_used(claim);
        ELSE
            held.tills := held.tills + 1;
        END IF;

        -- What other tills have counted while there was no limit is known here only once they have claimed it.
        IF before.units IS NULL AND held.units IS NOT NULL AND held.tills > 1 THEN
            held.learns_until := at + learn_for;
            PERFORM pg_notify('tollgate_news', concat_ws(' ', 'recall', asked.account, asked.till));
        END IF;
        is_learning := tollgate_learns(book.learns_until, at, learn_for)
            OR tollgate_learns(held.learns_until, at, learn_for);

        wanted := asked.target - told.granted;
        least := GREATEST(1, asked.least - told.granted);
        remaining := CASE WHEN held.units IS NOT NULL THEN GREATEST(0, held.units - held.committed) END;
        is_short := false;
        IF wanted > 0 AND held.units IS NOT NULL AND held.seeded AND NOT is_learning THEN
            IF remaining >= least THEN
                -- Grants halve toward the end, so that the last unit goes out exactly once and little lies idle.
                units := LEAST(remaining, GREATEST(least, LEAST(wanted, remaining / (2 * held.tills))));
                told.granted := told.granted + units;
                held.committed := held.committed + units;
                remaining := remaining - units;
            ELSE
                is_short := true;
            END IF;
        END IF;

        IF NOT is_claimed THEN
            INSERT INTO grant_claims SELECT told.*;
        ELSIF told IS DISTINCT FROM claim THEN
            UPDATE grant_claims SET granted = told.granted, spent = told.spent, returned = told.returned,
                refunded = told.refunded, over = told.over, over_returned = told.over_returned, seed = told.seed
            WHERE account = asked.account AND till = asked.till;
        END IF;
        IF held IS DISTINCT FROM before THEN
            UPDATE grant_accounts SET units = held.units, version = held.version, learns_until = held.learns_until,
                committed = held.committed, used = held.used, tills = held.tills
            WHERE account = asked.account;
        END IF;

        place := asked.place;
        is_seeded := held.seeded;
        in_life := book.life;
        now_granted := told.granted;
        used_elsewhere := GREATEST(0, held.used - tollgate_used(told));
        idle_elsewhere := GREATEST(0, held.committed - held.used
            - GREATEST(0, tollgate_committed(told) - tollgate_used(told)));
        wal := tollgate_wal();
        IF is_short AND idle_elsewhere > 0 THEN
            PERFORM pg_notify('tollgate_news', concat_ws(' ', 'recall', asked.account, asked.till));
        END IF;
        IF NOT had_left AND COALESCE(remaining, 1) > 0 THEN
            PERFORM pg_notify('tollgate_news', concat_ws(' ', 'freed', asked.account));
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- Tells what was used of accounts that had been forgotten. Those that are seeded stay as they are. `of` says for each
-- till and its units which account they are of.
CREATE FUNCTION tollgate_seed(
    learn_micros BIGINT, seen_life BIGINT, seen_wal BIGINT,
    accounts TEXT[], expiries TIMESTAMPTZ[], limits BIGINT[], versions BIGINT[],
    users TEXT[], tills UUID[], used BIGINT[])
RETURNS BIGINT LANGUAGE plpgsql SECURITY DEFINER AS $$
#variable_conflict use_column
DECLARE
    asked RECORD;
    opened RECORD;
    added RECORD;
    seeded_now BIGINT := 0;
BEGIN
    PERFORM tollgate_life(learn_micros * interval '1 microsecond', seen_life, seen_wal, false);
    FOR asked IN
        SELECT * FROM unnest(accounts, expiries, limits, versions) AS told(account, expires_at, units, version)
        ORDER BY account COLLATE "C"
    LOOP
        opened := tollgate_open_account(asked.account, asked.units, asked.version, false, asked.expires_at);
        CONTINUE WHEN (opened.held).seeded;
        -- A till that has claimed knows better.
        WITH inserted AS (
            INSERT INTO grant_claims (account, till, seed)
            SELECT asked.account, told.till, told.units
            FROM unnest(users, tills, used) AS told(account, till, units) WHERE told.account = asked.account
            ON CONFLICT DO NOTHING RETURNING seed
        )
        SELECT COALESCE(SUM(seed), 0) AS units, COUNT(*) AS tills INTO added FROM inserted;
        UPDATE grant_accounts SET seeded = true, units = (opened.held).units, version = (opened.held).version,
            committed = committed + added.units, used = used + added.units, tills = tills + added.tills
        WHERE account = asked.account;
        seeded_now := seeded_now + 1;
    END LOOP;
    RETURN seeded_now;
END $$;

-- The life, begun if there was none, and whether it learns.
CREATE FUNCTION tollgate_lives(learn_micros BIGINT, seen_life BIGINT, seen_wal BIGINT)
RETURNS TABLE (in_life BIGINT, is_learning BOOLEAN) LANGUAGE sql SECURITY DEFINER AS $$
    SELECT life, tollgate_learns(learns_until, clock_timestamp(), learn_micros * interval '1 microsecond')
    FROM tollgate_life(learn_micros * interval '1 microsecond', seen_life, seen_wal, false)
$$;

-- Forgets accounts that have expired by this server's clock or by `at`, whichever is earlier; answers how many. As many
-- as take little time: who calls goes on until there are none.
CREATE FUNCTION tollgate_forget_grants(at TIMESTAMPTZ) RETURNS BIGINT LANGUAGE sql SECURITY DEFINER AS $$
    WITH expired AS (
        SELECT account FROM grant_accounts WHERE expires_at < LEAST(at, CURRENT_TIMESTAMP)
        LIMIT 1000 FOR UPDATE SKIP LOCKED
    ), forgotten AS (
        DELETE FROM grant_accounts USING expired WHERE grant_accounts.account = expired.account RETURNING 1
    )
    SELECT COUNT(*) FROM forgotten
$$;

-- What runs with the owner's rights finds tables in this schema and nowhere else, and only who brings usage may run it.
DO $$
DECLARE
    made regprocedure;
BEGIN
    FOR made IN SELECT oid FROM pg_proc WHERE pronamespace = current_schema()::regnamespace AND proname IN (
            'tollgate_committed', 'tollgate_used', 'tollgate_learns', 'tollgate_wal', 'tollgate_life',
            'tollgate_open_account', 'tollgate_renew', 'tollgate_seed', 'tollgate_lives', 'tollgate_forget_grants') LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', made);
        IF (SELECT prosecdef FROM pg_proc WHERE oid = made) THEN
            EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', made, current_schema());
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO tollgate_ingest', made);
        END IF;
    END LOOP;
END $$;
