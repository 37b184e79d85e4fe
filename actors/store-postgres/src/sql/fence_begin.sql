select refold.fence_begin($1, $2, $3, $4, $5)
