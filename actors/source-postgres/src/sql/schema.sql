-- Event tables, and the catalogue of them. Everything is made by who may create a schema; a
-- writer needs usage of the schema, insert on its table and usage of the table's sequence; a
-- reader usage of the schema, and select on the table, on its sequence and on the catalogue.
create schema if not exists refold_events;

create table if not exists refold_events.logs (
    name       text primary key,
    -- Another one for a table that is made anew under an old name.
    id         uuid not null default gen_random_uuid(),
    partitions integer not null check (partitions between 1 and 4096),
    -- What lies below it was deleted. It moves in the transaction that deletes.
    low        bigint not null default 0 check (low >= 0),
    created_at timestamptz not null default clock_timestamp()
);

-- Gives a row its position. A default would not do: COPY writes a column that it names whatever
-- the column says of itself, and so does OVERRIDING SYSTEM VALUE. Nobody but this function may
-- choose a position, because what it does next is what makes the table a log.
--
-- The transaction's first position is announced by a lock that ends with the transaction (and,
-- like the row, with the savepoint that it was written in). Between nextval and the lock the
-- transaction is known by its lock on the table, which it took before.
create or replace function refold_events.place() returns trigger language plpgsql as $$
declare
    announced text := 'refold_events.t' || tg_relid;
begin
    new.position := pg_catalog.nextval(tg_argv[0]::pg_catalog.regclass);
    if coalesce(pg_catalog.current_setting(announced, true), '') = '' then
        perform pg_catalog.pg_advisory_xact_lock_shared(tg_relid::int4, new.position::bit(32)::int4);
        perform pg_catalog.set_config(announced, 'yes', true);
    end if;
    if new.partition is null then
        new.partition := refold_events.partition_of(new.key, tg_argv[1]::int4);
    end if;
    return new;
end $$;

-- The partition in which Kafka's Java client would put the key: murmur2, without the sign.
create or replace function refold_events.partition_of(key bytea, partitions integer) returns integer
language plpgsql immutable strict parallel safe as $$
declare
    m    constant bigint := 1540483477;
    mask constant bigint := 4294967295;
    size constant integer := length(key);
    h    bigint := 2538058380 # size;
    k    bigint;
    at   integer := 0;
begin
    while at + 4 <= size loop
        k := get_byte(key, at)::bigint | (get_byte(key, at + 1)::bigint << 8)
            | (get_byte(key, at + 2)::bigint << 16) | (get_byte(key, at + 3)::bigint << 24);
        k := (k * m) & mask;
        k := ((k # (k >> 24)) * m) & mask;
        h := ((h * m) & mask) # k;
        at := at + 4;
    end loop;
    if at < size then
        for rest in 0 .. size - at - 1 loop
            h := h # (get_byte(key, at + rest)::bigint << (8 * rest));
        end loop;
        h := (h * m) & mask;
    end if;
    h := ((h # (h >> 13)) * m) & mask;
    h := h # (h >> 15);
    return (h & 2147483647) % partitions;
end $$;

-- An event that was written stays as it is.
create or replace function refold_events.refuse() returns trigger language plpgsql as $$
begin
    raise exception '% of %: events are written once and never changed; what is wrong is put right by another event',
        tg_op, tg_table_name using errcode = 'RE001';
end $$;

-- Only what was declared to be gone may go.
create or replace function refold_events.refuse_above_low() returns trigger language plpgsql as $$
declare
    lowest bigint;
begin
    select low into lowest from refold_events.logs where name = tg_table_name;
    if exists (select from gone where position >= coalesce(lowest, 0)) then
        raise exception 'delete of %: events from position % on are kept; what is to go is declared first, by refold_events.delete_below',
            tg_table_name, coalesce(lowest, 0) using errcode = 'RE001';
    end if;
    return null;
end $$;

-- Creates an event table and answers its id.
create or replace function refold_events.create_log(log_name text, partition_count integer)
returns uuid language plpgsql as $$
declare
    sequence_name text := log_name || '_position';
    log_id uuid;
begin
    if log_name = 'logs' or length(log_name) > 50 then
        raise exception 'an event table cannot be named %: logs is the catalogue, and a name has at most 50 letters', log_name;
    end if;
    execute format(
        'create sequence refold_events.%I as bigint minvalue 0 start 0 increment 1 cache 1 no cycle',
        sequence_name);
    execute format(
        'create table refold_events.%I (
            position    bigint not null,
            partition   integer not null check (partition >= 0 and partition < %s),
            key         bytea not null,
            value       bytea,
            recorded_at timestamptz not null default clock_timestamp(),
            primary key (partition, position))',
        log_name, partition_count);
    execute format('alter sequence refold_events.%I owned by refold_events.%I.position',
        sequence_name, log_name);
    execute format(
        'create trigger place before insert on refold_events.%I
             for each row execute function refold_events.place(%L, %L)',
        log_name, format('refold_events.%I', sequence_name), partition_count);
    execute format(
        'create trigger refuse before update or truncate on refold_events.%I
             for each statement execute function refold_events.refuse()', log_name);
    execute format(
        'create trigger refuse_above_low after delete on refold_events.%I
             referencing old table as gone
             for each statement execute function refold_events.refuse_above_low()', log_name);
    -- Also where a session calls itself a replica.
    execute format('alter table refold_events.%I enable always trigger place', log_name);
    execute format('alter table refold_events.%I enable always trigger refuse', log_name);
    execute format('alter table refold_events.%I enable always trigger refuse_above_low', log_name);
    -- A row without its table is what a table that was dropped left behind.
    delete from refold_events.logs where name = log_name;
    insert into refold_events.logs (name, partitions) values (log_name, partition_count)
        returning id into log_id;
    return log_id;
end $$;

-- Deletes the events below a position and answers how many there were. What is deleted and the
-- word that it is gone are one transaction, so that no reader takes a part for the whole.
create or replace function refold_events.delete_below(log_name text, below bigint)
returns bigint language plpgsql as $$
declare
    log refold_events.logs;
    deleted bigint := 0;
    here bigint;
begin
    update refold_events.logs set low = greatest(low, below) where name = log_name returning * into log;
    if not found then
        raise exception 'there is no event table %', log_name;
    end if;
    for p in 0 .. log.partitions - 1 loop
        execute format('delete from refold_events.%I where partition = $1 and position < $2', log_name)
            using p, log.low;
        get diagnostics here = row_count;
        deleted := deleted + here;
    end loop;
    return deleted;
end $$;
