-- The partitions of a version that have no table, or one without its key. Every promotion asks
-- while it holds its locks: this form keeps its plan, and one in SQL is planned for each call.
create or replace function refold.partitions_without_key(p_version bigint) returns setof integer
language plpgsql stable as $$
begin
    return query
        select p.partition
        from refold.versions v
        cross join lateral generate_series(0, v.partitions - 1) p (partition)
        left join refold.offsets o on o.version = v.id and o.partition = p.partition
        where v.id = p_version
            and (o.has_leaf is not true or not exists (
                select 1 from pg_index i
                where i.indrelid = to_regclass(format('rm.%I', format('v%s_p%s', v.id, p.partition)))
                    and i.indisprimary and i.indisvalid))
        order by p.partition;
end
$$;
