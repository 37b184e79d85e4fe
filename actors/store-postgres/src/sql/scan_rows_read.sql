select r.partition, r.rank, r.key,
    r.old_cells, r.old_seq, r.old_off, r.new_cells, r.new_seq, r.new_off
from refold.scan_rows r
where r.scan = $1
order by r.rank
