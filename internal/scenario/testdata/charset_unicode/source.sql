INSERT INTO t VALUES (1, 'aé日', 'aé日😀', 'aé日', 'aé日😀', 'aé日😀', 'aé日😀'), (2, '', '', '', '', '', ''), (3, NULL, NULL, NULL, NULL, NULL, NULL),
  (4, '\\''"', '\\''"', '\\''"', '\\''"', '\\''"', '\\''"'), (5, '\0\n', '\0\n', '\0\n', '\0\n', '\0\n', '\0\n');
UPDATE t SET c = CONCAT(c, 'x'), d = CONCAT(d, '𝄞') WHERE id = 1;
DELETE FROM t WHERE id = 2;
INSERT INTO k16 VALUES ('é', 1), ('e', 2), ('日', 3);
UPDATE k16 SET v = 9 WHERE k = '日';
DELETE FROM k16 WHERE k = 'é';
INSERT INTO k32 VALUES ('ä', 1), ('😀', 2);
UPDATE k32 SET k = '😁' WHERE k = '😀';
INSERT INTO none VALUES ('ä', 'ä'), ('a', 'a'), ('ä', 'ä');
DELETE FROM none WHERE a = 'ä' LIMIT 1;
