-- Lets this verification's partition go, and forgets leases that ran out long ago.
delete from refold.parks k
where (k.verification = $1 and k.partition = $2) or k.until < clock_timestamp() - interval '1 minute'
