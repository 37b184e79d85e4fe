select epoch, next_offset, sums from refold.repair_begin($1, $2, $3)
