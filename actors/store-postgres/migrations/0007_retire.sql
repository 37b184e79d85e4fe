-- The end of a version: retired first, dropped when nobody can read it any more.

-- When it was retired: transactions that began before it may still name its tables.
alter table refold.versions add column retired_at timestamptz;

-- Nothing is projected, promoted or proven of a retired version any more. The caller
-- holds the version's row lock and has seen that its state allows it.
create function refold.retire_version(p_version bigint, p_actor text, p_reason text)
returns void language plpgsql as $$
declare
    v_version refold.versions;
    v_at timestamptz := clock_timestamp();
begin
    select * into strict v_version from refold.versions v where v.id = p_version;
    update refold.versions
        set state = 'retired', changed_at = v_at, retired_at = v_at, note = p_reason
        where id = p_version;
    -- No batch is cut at a switch that cannot come.
    update refold.barriers set state = 'dropped', changed_at = v_at
        where state = 'waiting' and (version_from = p_version or version_to = p_version);
    perform refold.audit_append(p_actor, 'retire', v_version.label,
        jsonb_build_object('version', p_version, 'was', v_version.state, 'reason', p_reason));
end
$$;

-- Who may still read a retired version: transactions of this database that began
-- before it was retired, as "pid 123 (refold api)". A statement of the read path that is
-- younger knows the version's state and does not name its tables.
create function refold.readers_before(p_at timestamptz) returns setof text
language sql volatile as $$
    select format('pid %s (%s)', a.pid, coalesce(nullif(a.application_name, ''), a.backend_type))
    from pg_stat_activity a
    where a.datname = current_database() and a.pid <> pg_backend_pid()
        and a.xact_start < p_at
    order by a.xact_start
$$;

-- Drops the tables of a retired version, its view, and its marks. What was recorded of it
-- (barriers, proofs, promotions, audit) stays. The caller holds the version's row lock.
create function refold.drop_version(p_version bigint, p_actor text) returns integer
language plpgsql as $$
declare
    v_version refold.versions;
    v_table text;
    v_tables integer := 0;
begin
    select * into strict v_version from refold.versions v where v.id = p_version;
    -- The view of its label, if it is the one that was made over these tables.
    if exists (
        select 1 from pg_rewrite r
        join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
            and d.refclassid = 'pg_class'::regclass
        where r.ev_class = to_regclass(format('public.%I', v_version.label))
            and d.refobjid = to_regclass(format('rm.%I', format('v%s_p0', p_version)))
    ) then
        execute format('drop view public.%I', v_version.label);
    end if;
    for v_table in
        select c.relname from pg_class c
        where c.relnamespace = 'rm'::regnamespace and c.relkind = 'r'
            and c.relname ~ format('^v%s_p[0-9]+(_checkpoint)?$', p_version)
    loop
        execute format('drop table rm.%I', v_table);
        v_tables := v_tables + 1;
    end loop;
    delete from refold.parks where version = p_version;
    delete from refold.offsets where version = p_version;
    update refold.versions set state = 'dropped', changed_at = clock_timestamp()
        where id = p_version;
    perform refold.audit_append(p_actor, 'drop', v_version.label,
        jsonb_build_object('version', p_version, 'tables', v_tables));
    return v_tables;
end
$$;
