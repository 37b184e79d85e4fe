-- The registry's functions: a version's view, and the switch itself.

-- Comparisons of two versions' sums at a barrier. Append-only; the latest counts.
create table refold.barrier_proofs (
    id          bigint generated always as identity primary key,
    barrier     bigint not null references refold.barriers (id),
    columns     text[] not null,
    -- [{"partition": 3, "column": "balance", "buckets": [1, 7]}, ..]; empty is the proof.
    differences jsonb not null,
    compared_at timestamptz not null default clock_timestamp()
);

create index barrier_proofs_of on refold.barrier_proofs (barrier, id desc);

-- Comparisons of two versions' rows in one snapshot per partition.
create table refold.verifications (
    id           uuid primary key,
    version_from bigint not null references refold.versions (id),
    version_to   bigint not null references refold.versions (id),
    columns      text[] not null,
    -- Per partition: switch offset, rows, differences, see refold-store-postgres.
    partitions   jsonb not null,
    differences  bigint not null,
    verified_at  timestamptz not null default clock_timestamp()
);

-- Creates the read-only view public.<label> over a version's leaves, and returns
-- whether it did: a relation of that name that somebody else made is left alone.
-- The label and the column names are data; they are quoted here and nowhere else.
create function refold.create_version_view(p_version bigint) returns boolean
language plpgsql as $$
declare
    v_version refold.versions;
    v_columns text;
    v_leaves text;
begin
    select * into strict v_version from refold.versions v where v.id = p_version;
    if to_regclass(format('public.%I', v_version.label)) is not null then
        return false;
    end if;
    select string_agg(format('%I, ', c.value ->> 'name'), '' order by c.ordinality)
        into v_columns
        from jsonb_array_elements(v_version.columns) with ordinality c;
    select string_agg(format(
            'select key as aggregate_id, %s agg_version as applied_seq, off as applied_offset, '
            '%s::integer as partition from rm.%I where not deleted',
            coalesce(v_columns, ''), p, format('v%s_p%s', p_version, p)),
            ' union all ' order by p)
        into v_leaves
        from generate_series(0, v_version.partitions - 1) p;
    execute format('create view public.%I as %s', v_version.label, v_leaves);
    return true;
end
$$;

-- Partitions of a version without a leaf, or whose leaf has no valid primary key.
create function refold.partitions_without_key(p_version bigint) returns setof integer
language sql stable as $$
    select p.partition
    from refold.versions v
    cross join lateral generate_series(0, v.partitions - 1) p (partition)
    left join refold.offsets o on o.version = v.id and o.partition = p.partition
    where v.id = p_version
        and (o.has_leaf is not true or not exists (
            select 1 from pg_index i
            where i.indrelid = to_regclass(format('rm.%I', format('v%s_p%s', v.id, p.partition)))
                and i.indisprimary and i.indisvalid))
    order by p.partition
$$;

-- The switch: the row that reads are resolved by, the two states, the promotion
-- and the audit. The caller holds the locks of refold.active and of both versions
-- rows and has judged every gate. p_from is null for a name's first version.
create function refold.switch_active(
    p_name text, p_from bigint, p_to bigint, p_barrier bigint,
    p_switch jsonb, p_gates jsonb, p_actor text
) returns table (promotion text, generation bigint, switched_at timestamptz)
language plpgsql as $$
#variable_conflict use_column
declare
    v_id uuid := gen_random_uuid();
    v_generation bigint;
    v_at timestamptz := clock_timestamp();
begin
    -- The old one first: at no moment may two versions be active.
    update refold.versions set state = 'previous', changed_at = v_at where id = p_from;
    update refold.versions set state = 'active', changed_at = v_at where id = p_to;
    if p_from is null then
        v_generation := 1;
        insert into refold.active (name, version, generation, promotion_id, switched_at)
            values (p_name, p_to, v_generation, v_id, v_at);
    else
        update refold.active a
            set version = p_to, generation = a.generation + 1, promotion_id = v_id, switched_at = v_at
            where a.name = p_name and a.version = p_from
            returning a.generation into strict v_generation;
    end if;
    insert into refold.promotions
        (id, name, version_from, version_to, generation, barrier, switch, gates, actor, switched_at)
        values (v_id, p_name, p_from, p_to, v_generation, p_barrier, p_switch, p_gates, p_actor, v_at);
    perform refold.audit_append(p_actor, 'promote',
        (select v.label from refold.versions v where v.id = p_to),
        jsonb_build_object('promotion', v_id, 'from', p_from, 'to', p_to,
            'generation', v_generation, 'barrier', p_barrier, 'switch', p_switch, 'gates', p_gates,
            'compared', p_from is not null));
    return query select v_id::text, v_generation, v_at;
end
$$;
