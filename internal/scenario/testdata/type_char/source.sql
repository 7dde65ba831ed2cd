INSERT INTO t VALUES (1, 'a', 'a ', 'a  ', ''), (2, '', '', '', ' '), (3, NULL, NULL, NULL, NULL), (4, 'ab', ' ab', REPEAT('x', 255), REPEAT('y', 70000)),
  (5, 'ÄÖ', 'ÄÖ', '日本語', '𝄞😀');
INSERT INTO t VALUES (6, '\\', "'", '"', '`'), (7, '%', '_', '\0', '\Z\n\r\t\b');
UPDATE t SET b = CONCAT(b, '  ') WHERE id < 6;
UPDATE t SET d = REVERSE(d);
DELETE FROM t WHERE id = 2;
INSERT INTO none VALUES ('a', 'a'), ('A', 'a '), ('a', 'b'), ('ä', NULL);
DELETE FROM none WHERE BINARY v = 'a ';
UPDATE none SET v = 'z' WHERE v = 'b';
