INSERT INTO t VALUES (1, 1, 1);
SET binlog_row_image = MINIMAL;
UPDATE t SET a = 2;
