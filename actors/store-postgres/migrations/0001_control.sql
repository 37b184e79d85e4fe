-- The control tables: versions, who serves reads, marks, barriers, audit.
-- Names and labels are data in columns. Identifiers are made of numeric ids only.

create schema if not exists refold;
create schema rm;

create table refold.versions (
    id          bigint generated always as identity primary key,
    name        text not null check (name ~ '^[a-z][a-z0-9_]{0,30}$'),
    number      integer not null check (number >= 0),
    label       text not null unique,
    state       text not null check (state in
                    ('building', 'ready', 'active', 'previous', 'failed', 'retired', 'dropped')),
    code_hash   text not null,
    key_type    text not null,
    -- [{"name": .., "type": .., "nullable": .., "compare": "same"|"new"|"differs"}, ..] in table order.
    columns     jsonb not null,
    -- Number of the version that this one replaces and compares with.
    replaces    integer,
    cluster_id  text not null,
    topic       text not null,
    topic_id    text,
    partitions  integer not null check (partitions > 0),
    wire_form   text,
    note        text,
    created_at  timestamptz not null default clock_timestamp(),
    changed_at  timestamptz not null default clock_timestamp(),
    unique (name, number),
    -- Target of the foreign key of refold.active.
    unique (name, id, state)
);

-- At most one version of a name serves reads, even against hand-written SQL.
create unique index versions_one_active on refold.versions (name) where state = 'active';

-- The one row per projection that says which version serves reads. The foreign
-- key makes it impossible to retire, fail or drop the version that it names.
create table refold.active (
    name         text primary key,
    version      bigint not null,
    st           text not null default 'active' check (st = 'active'),
    generation   bigint not null check (generation > 0),
    promotion_id uuid,
    switched_at  timestamptz not null default clock_timestamp(),
    foreign key (name, version, st) references refold.versions (name, id, state)
        deferrable initially deferred
);

-- One hot row per (version, partition): the fence, the mark and the sums. No
-- column that a batch changes is indexed, and half of each page stays free, so
-- that every update finds room in its page.
create table refold.offsets (
    version             bigint not null references refold.versions (id),
    partition           integer not null check (partition >= 0),
    epoch               bigint not null,
    -- Exclusive: everything below is in the leaf, nothing at or above.
    next_offset         bigint not null check (next_offset >= 0),
    -- Offset (8 bytes) and XXH3-128 (16 bytes), big-endian, of the record that was applied last.
    last_record         bytea check (octet_length(last_record) = 24),
    sums                bytea not null,
    -- Rows that are not deleted.
    rows                bigint not null default 0,
    has_leaf            boolean not null default false,
    reached_log_end     boolean not null default false,
    owner_pid           integer,
    owner_backend_start timestamptz,
    -- The transaction that loaded the leaf. A snapshot that does not see it must
    -- not read the leaf, because COPY FREEZE shows its rows to older snapshots too.
    leaf_xid            xid8,
    committed_at        timestamptz,
    primary key (version, partition)
) with (fillfactor = 50);

create table refold.barriers (
    id           bigint generated always as identity primary key,
    version_from bigint not null references refold.versions (id),
    version_to   bigint not null references refold.versions (id),
    state        text not null check (state in ('waiting', 'complete', 'void', 'dropped')),
    created_at   timestamptz not null default clock_timestamp(),
    changed_at   timestamptz not null default clock_timestamp(),
    check (version_from <> version_to)
);

-- What every commit looks at: almost always empty.
create index barriers_waiting on refold.barriers (version_from, version_to) where state = 'waiting';

-- The switch vector, one offset per partition, exclusive like every mark.
create table refold.barrier_switch (
    barrier   bigint not null references refold.barriers (id),
    partition integer not null,
    x         bigint not null,
    primary key (barrier, partition)
);

-- The sums of a version's partition when its mark stood exactly at x.
create table refold.barrier_acks (
    barrier   bigint not null references refold.barriers (id),
    version   bigint not null,
    partition integer not null,
    sums      bytea not null,
    rows      bigint not null,
    acked_at  timestamptz not null default clock_timestamp(),
    primary key (barrier, version, partition)
);

-- Marks that a verification holds still for the moment of taking its snapshot:
-- no batch passes x before the row is gone or its lease is over, so that a dead
-- verifier frees the writers by itself.
create table refold.parks (
    version      bigint not null references refold.versions (id),
    partition    integer not null,
    x            bigint not null,
    until        timestamptz not null,
    verification uuid not null,
    primary key (version, partition, verification)
);

create table refold.parked_events (
    version   bigint not null references refold.versions (id),
    partition integer not null,
    at_offset bigint not null,
    key       text,
    reason    text not null,
    payload   bytea,
    parked_at timestamptz not null default clock_timestamp(),
    primary key (version, partition, at_offset)
);

-- Aggregates whose versions jump: events are missing in front of at_offset.
create table refold.gaps (
    version   bigint not null references refold.versions (id),
    partition integer not null,
    at_offset bigint not null,
    key       text not null,
    expected  bigint not null,
    found     bigint not null,
    found_at  timestamptz not null default clock_timestamp(),
    primary key (version, partition, at_offset)
);

create table refold.promotions (
    id           uuid primary key,
    name         text not null,
    version_from bigint references refold.versions (id),
    version_to   bigint not null references refold.versions (id),
    generation   bigint not null,
    barrier      bigint references refold.barriers (id),
    -- {"0": 123, "1": 456}: the switch vector by partition.
    switch       jsonb not null,
    -- [{"gate": .., "ok": .., "detail": ..}, ..]
    gates        jsonb not null,
    actor        text not null,
    switched_at  timestamptz not null default clock_timestamp(),
    unique (name, generation)
);

-- Append-only. Each row's hash covers the row before, so that a changed or
-- missing row breaks the chain. Written through refold.audit_append alone.
create table refold.audit (
    id       bigint primary key,
    at       timestamptz not null,
    actor    text not null,
    action   text not null,
    subject  text not null,
    details  jsonb not null,
    previous bytea not null,
    hash     bytea not null
);

create function refold.audit_is_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'the audit is append-only' using errcode = '42501';
end
$$;

create trigger audit_no_change before update or delete on refold.audit
    for each row execute function refold.audit_is_append_only();
create trigger audit_no_truncate before truncate on refold.audit
    for each statement execute function refold.audit_is_append_only();

-- The bytes that a row's hash is taken of.
create function refold.audit_hash(
    p_id bigint, p_at timestamptz, p_actor text, p_action text, p_subject text,
    p_details jsonb, p_previous bytea
) returns bytea language sql stable as $$
    select sha256(p_previous || convert_to(jsonb_build_array(
        p_id, extract(epoch from p_at), p_actor, p_action, p_subject, p_details)::text, 'UTF8'))
$$;

-- Appends one row in the caller's transaction and returns its id. The advisory
-- lock keeps the chain a chain: two appenders would name the same predecessor.
create function refold.audit_append(
    p_actor text, p_action text, p_subject text, p_details jsonb
) returns bigint language plpgsql as $$
declare
    v_id bigint;
    v_previous bytea;
    v_at timestamptz := clock_timestamp();
begin
    perform pg_advisory_xact_lock(hashtextextended('refold.audit', 0));
    select a.id, a.hash into v_id, v_previous from refold.audit a order by a.id desc limit 1;
    v_id := coalesce(v_id, 0) + 1;
    v_previous := coalesce(v_previous, ''::bytea);
    insert into refold.audit (id, at, actor, action, subject, details, previous, hash)
    values (v_id, v_at, p_actor, p_action, p_subject, p_details, v_previous,
            refold.audit_hash(v_id, v_at, p_actor, p_action, p_subject, p_details, v_previous));
    return v_id;
end
$$;
