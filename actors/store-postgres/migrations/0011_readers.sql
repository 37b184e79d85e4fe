-- Who may still read a retired version. An automatic vacuum holds a transaction as long as its
-- table takes, hours for a large one, and nobody is answered by what it reads; it gives way when
-- its own table is dropped.
create or replace function refold.readers_before(p_at timestamptz) returns setof text
language sql volatile as $$
    select format('pid %s (%s)', a.pid, coalesce(nullif(a.application_name, ''), a.backend_type))
    from pg_stat_activity a
    where a.datname = current_database() and a.pid <> pg_backend_pid()
        and a.backend_type is distinct from 'autovacuum worker'
        and a.xact_start < p_at
    order by a.xact_start
$$;
