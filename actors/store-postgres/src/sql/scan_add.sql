-- One partition more, with the rows that were chosen in it. A scan that is finished takes none,
-- and no partition is taken twice.
with recorded as (
    insert into refold.scan_partitions (scan, partition, differences, rows, expected, found)
    select s.id, $2, $3, $4, $5, $6
    from refold.verifications s
    where s.id = $1 and s.finished_at is null
    on conflict do nothing
    returning scan, partition
), chosen as (
    insert into refold.scan_rows
        (scan, partition, rank, key, old_cells, old_seq, old_off, new_cells, new_seq, new_off)
    select p.scan, p.partition, r.*
    from recorded p
    cross join unnest(
        $7::bigint[], $8::bytea[], $9::bytea[], $10::bigint[], $11::bigint[],
        $12::bytea[], $13::bigint[], $14::bigint[]) r
)
select 1 from recorded
