select promotion, generation, switched_at
from refold.switch_active($1, $2, $3, $4, $5, $6, $7)
