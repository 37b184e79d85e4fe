-- The end of a statement whose rows may be there already.
on conflict (key) do update set
    balance = excluded.balance, status = excluded.status,
    largest_deposit = excluded.largest_deposit, deposits_count = excluded.deposits_count,
    reversed_total = excluded.reversed_total, opened_at = excluded.opened_at,
    closed_at = excluded.closed_at, currency = excluded.currency,
    agg_version = excluded.agg_version, off = excluded.off, deleted = excluded.deleted
where excluded.off > leaf.off
