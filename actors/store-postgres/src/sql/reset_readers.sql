-- Transactions that may still read the tables of a version that failed.
select array(select refold.readers_before(v.changed_at)) as readers
from refold.versions v where v.id = $1
