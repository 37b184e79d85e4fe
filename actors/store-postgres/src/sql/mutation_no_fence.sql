-- The deliberately broken build: moves the mark without asking whose it is or where it stands.
with moved as (
    update refold.offsets set next_offset = $5, last_record = $6, sums = $7, rows = $8,
        reached_log_end = reached_log_end or $9, has_leaf = true, leaf_xid = pg_current_xact_id(),
        committed_at = clock_timestamp()
    where version = $1 and partition = $2 and $3::bigint is not null and $4::bigint is not null
    returning version
)
select null::bigint as switch, pg_current_xact_id()::text as xid from moved
