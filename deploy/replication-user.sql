-- Creates the producer's role on the source. Run it as the master user, in the database to follow:
--   psql "$ADMIN" -v user=cdc -v database=shop [-v iam=1] -f deploy/replication-user.sql
-- iam=1 is for IAM authentication. For a secret, set the password afterwards:  \password cdc
\set ON_ERROR_STOP on
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :'user') AS is_there,
       EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication') AS on_rds \gset
\if :is_there
\else
CREATE ROLE :"user" LOGIN;
\endif
\if :on_rds
GRANT rds_replication TO :"user";
\if :{?iam}
GRANT rds_iam TO :"user";
\endif
\else
ALTER ROLE :"user" REPLICATION;
\endif
-- the role reads the WAL through the slot and needs no table; for --snapshot and backfill:  GRANT SELECT ON … TO cdc
GRANT CONNECT ON DATABASE :"database" TO :"user";
