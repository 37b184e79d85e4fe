unnest(
    $1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[],
    $7::timestamptz[], $8::timestamptz[], $9::text[], $10::bigint[], $11::bigint[], $12::boolean[])
    as new (key, balance, status, largest_deposit, deposits_count, reversed_total, opened_at,
            closed_at, currency, agg_version, off, deleted)
