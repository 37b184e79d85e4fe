-- What a merge does with its source.
on leaf.key = new.key
when matched and new.off > leaf.off then update set
    balance = new.balance, status = new.status,
    largest_deposit = new.largest_deposit, deposits_count = new.deposits_count,
    reversed_total = new.reversed_total, opened_at = new.opened_at,
    closed_at = new.closed_at, currency = new.currency,
    agg_version = new.agg_version, off = new.off, deleted = new.deleted
when not matched then insert values (
    new.key, new.balance, new.status, new.largest_deposit, new.deposits_count, new.reversed_total,
    new.opened_at, new.closed_at, new.currency, new.agg_version, new.off, new.deleted)
