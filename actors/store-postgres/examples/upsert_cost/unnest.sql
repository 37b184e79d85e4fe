insert into account as leaf
select * from unnest(
    $1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[],
    $7::timestamptz[], $8::timestamptz[], $9::text[], $10::bigint[], $11::bigint[], $12::boolean[])
on conflict (key) do update set
    balance = excluded.balance, status = excluded.status,
    largest_deposit = excluded.largest_deposit, deposits_count = excluded.deposits_count,
    reversed_total = excluded.reversed_total, opened_at = excluded.opened_at,
    closed_at = excluded.closed_at, currency = excluded.currency,
    agg_version = excluded.agg_version, off = excluded.off, deleted = excluded.deleted
where excluded.off > leaf.off
