update account as leaf set
    balance = new.balance, status = new.status,
    largest_deposit = new.largest_deposit, deposits_count = new.deposits_count,
    reversed_total = new.reversed_total, opened_at = new.opened_at,
    closed_at = new.closed_at, currency = new.currency,
    agg_version = new.agg_version, off = new.off, deleted = new.deleted
from
