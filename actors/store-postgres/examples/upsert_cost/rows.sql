select key, balance, agg_version, off from account
