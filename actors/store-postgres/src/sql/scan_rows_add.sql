-- Rows that were chosen in a partition of a scan, in place of those that a worker that died
-- before it recorded the partition left.
with gone as (
    delete from refold.scan_rows r where r.scan = $1 and r.partition = $2
)
insert into refold.scan_rows
    (scan, partition, rank, key, old_cells, old_seq, old_off, new_cells, new_seq, new_off)
select $1, $2, r.* from unnest(
    $3::bigint[], $4::bytea[], $5::bytea[], $6::bigint[], $7::bigint[], $8::bytea[], $9::bigint[], $10::bigint[]
) r
