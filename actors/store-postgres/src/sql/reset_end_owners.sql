-- Of a version that failed: its fence refuses them whatever they do.
select refold.end_owner(o.version, o.partition)
from refold.offsets o join refold.versions v on v.id = o.version
where v.id = $1 and v.state = 'failed'
