SET binlog_row_image = NOBLOB;
INSERT INTO t VALUES (1, 'one', REPEAT('x', 1000), x'00'), (2, 'two', NULL, NULL);
UPDATE t SET a = 'uno' WHERE id = 1;
UPDATE t SET b = 'b' WHERE id = 2;
DELETE FROM t WHERE id = 1;
INSERT INTO none VALUES (1, 'text'), (1, 'text'), (2, 'more');
UPDATE none SET k = 3 WHERE k = 2;
DELETE FROM none WHERE k = 1 LIMIT 1;
