-- A switch that costs the same however many there were, and reads that it does not send back.

-- The row of an aggregate in one version's leaf as JSON text, null for none: for a read that took
-- another version to serve than the one that its snapshot names. Stable, so that it looks through
-- the snapshot of the statement that calls it; the leaf is named when it is run, so that nobody
-- who does not get here waits for a lock on that leaf.
create function refold.read_aggregate(p_version bigint, p_partition integer, p_key anyelement)
returns text language plpgsql stable as $$
declare
    v_columns text;
    v_found text;
begin
    select string_agg(format('%I, ', c.value ->> 'name'), '' order by c.ordinality)
        into strict v_columns
        from refold.versions v, jsonb_array_elements(v.columns) with ordinality c
        where v.id = p_version;
    execute format(
            'select row_to_json(found)::text from (select %s agg_version as applied_seq, '
            'off as applied_offset from rm.%I where key = $1 and not deleted) found',
            v_columns, format('v%s_p%s', p_version, p_partition))
        into v_found using p_key;
    return v_found;
end
$$;

-- The scans of two versions by the code that they have now, whichever of them the scan named first,
-- the youngest first. Those from before a repair of one of both do not count.
create function refold.scans_between(p_serving bigint, p_candidate bigint)
returns setof refold.verifications language sql stable as $$
    select s.*
    from refold.verifications s
    join refold.versions f on f.id = s.version_from and f.code_hash = s.code_from
    join refold.versions t on t.id = s.version_to and t.code_hash = s.code_to
    where ((s.version_from = p_serving and s.version_to = p_candidate)
            or (s.version_from = p_candidate and s.version_to = p_serving))
        and (s.finished_at is not null or s.differences > 0)
        and not exists (
            select 1 from refold.repairs r
            where r.version in (s.version_from, s.version_to) and r.repaired_at >= s.started_at)
    order by s.started_at desc
$$;

-- The scan on which a switch to the second version rests: the youngest that found something wrong,
-- or whose rows that differ as expected (p_rows of them, if there are so many) the log confirmed;
-- while there is none of these, the youngest that read everything. Before, every scan that there
-- ever was had its testimony looked up in every switch. Not in SQL alone: this keeps its plans.
create or replace function refold.latest_scan(
    p_serving bigint, p_candidate bigint, p_rows bigint default 0
) returns table (
    id uuid, findings bigint, age_seconds double precision,
    expected bigint, confirmed bigint, contradicted bigint
)
language plpgsql stable as $$
#variable_conflict use_column
begin
    return query
        select s.id, s.differences, extract(epoch from clock_timestamp() - s.started_at)::float8,
            s.expected, t.confirmed, t.contradicted
        from refold.scans_between(p_serving, p_candidate) s
        left join lateral refold.latest_testimony(s.id, p_candidate) t on true
        where s.differences > 0 or coalesce(t.contradicted, 0) > 0
            or coalesce(t.confirmed, 0) >= least(s.expected, p_rows)
        order by s.started_at desc
        limit 1;
    if found then
        return;
    end if;
    return query
        select s.id, s.differences, extract(epoch from clock_timestamp() - s.started_at)::float8,
            s.expected, t.confirmed, t.contradicted
        from refold.scans_between(p_serving, p_candidate) s
        left join lateral refold.latest_testimony(s.id, p_candidate) t on true
        order by s.started_at desc
        limit 1;
end
$$;
