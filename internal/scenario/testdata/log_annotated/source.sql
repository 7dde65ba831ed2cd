--! on 5.6 9.7
SET binlog_rows_query_log_events = ON;
--! on maria
SET binlog_annotate_row_events = ON;
--! all
INSERT INTO t VALUES (1, 'a'), (2, 'b');
UPDATE t SET v = 'ä' /* a comment */ WHERE id = 1;
DELETE FROM t WHERE id = 2;
