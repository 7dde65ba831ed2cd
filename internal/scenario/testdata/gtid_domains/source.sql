SET gtid_domain_id = 1;
INSERT INTO t VALUES (1, 1);
--! session two
SET gtid_domain_id = 2;
INSERT INTO t VALUES (2, 2);
--! session main
UPDATE t SET v = v + 1;
--! sync
--! session two
UPDATE t SET v = v * 2;
--! session main
SET gtid_domain_id = 0;
DELETE FROM t WHERE id = 2;
