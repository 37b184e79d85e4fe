-- The columns of accounts_v4 as its leaves have them; the share of a page that is filled comes
-- from the session, because a definition takes no parameter.
do $$
begin
    execute format(
        'create table account (
            key bigint not null, balance bigint, status text, largest_deposit bigint,
            deposits_count bigint, reversed_total bigint, opened_at timestamptz,
            closed_at timestamptz, currency text, agg_version bigint not null,
            off bigint not null, deleted boolean not null
        ) with (fillfactor = %s)',
        current_setting('bench.fillfactor'));
end
$$;
create temporary table incoming (like account) on commit delete rows;
