select epoch, next_offset, last_record, sums, has_leaf, reached_log_end, switch,
    start_offset, has_checkpoint
from refold.take_over($1, $2, $3, $4, $5, $6)
