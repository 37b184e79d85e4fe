select p.id::text as id, p.version_from, p.version_to, p.generation, p.switch, p.gates, p.switched_at
from refold.promotions p
join refold.active a on a.name = p.name and a.promotion_id = p.id
where a.version = $1
