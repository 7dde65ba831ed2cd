SET gtid_next = 'AUTOMATIC:red';
INSERT INTO t VALUES (1);
SET gtid_next = 'AUTOMATIC:blue';
INSERT INTO t VALUES (2);
--! sync
SET gtid_next = 'AUTOMATIC:red';
UPDATE t SET id = 3 WHERE id = 1;
SET gtid_next = 'AUTOMATIC';
INSERT INTO t VALUES (4);
--! stop
SET gtid_next = '5a9f7b6e-0000-11ef-8000-000000000001:green:5';
INSERT INTO t VALUES (5);
SET gtid_next = '5a9f7b6e-0000-11ef-8000-000000000001:7';
DELETE FROM t WHERE id = 2;
SET gtid_next = 'AUTOMATIC';
