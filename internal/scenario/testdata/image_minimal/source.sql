SET binlog_row_image = MINIMAL;
INSERT INTO t (id, a) VALUES (1, 'one'), (2, 'two'), (3, 'three');
UPDATE t SET b = 5 WHERE id = 1;
UPDATE t SET id = 9, a = NULL WHERE id = 2;
DELETE FROM t WHERE id = 3;
INSERT INTO u (k, v) VALUES (1, 'x'), (2, 'y');
UPDATE u SET v = 'z' WHERE k = 1;
DELETE FROM u WHERE k = 2;
INSERT INTO none VALUES (1, 'x'), (1, 'x'), (2, NULL);
UPDATE none SET v = 'q' WHERE k = 2;
DELETE FROM none WHERE k = 1 LIMIT 1;
--! sync
SET binlog_row_image = FULL;
UPDATE t SET c = 'full';
SET binlog_row_image = MINIMAL;
UPDATE t SET c = 'minimal', b = b + 1;
