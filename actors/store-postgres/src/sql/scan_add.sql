-- One partition more. A scan that is finished takes none.
update refold.verifications s
set partitions = s.partitions || jsonb_build_array($2::jsonb),
    differences = s.differences + $3, rows = s.rows + $4, expected = s.expected + $5
where s.id = $1 and s.finished_at is null
returning 1
