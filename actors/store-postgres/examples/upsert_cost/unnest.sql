insert into account as leaf
select * from unnest(
    $1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[],
    $7::timestamptz[], $8::timestamptz[], $9::text[], $10::bigint[], $11::bigint[], $12::boolean[])
