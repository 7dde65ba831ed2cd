CREATE TABLE t (id INT PRIMARY KEY);
/* a comment with DROP TABLE t */ ALTER TABLE t /* inside; */ ADD COLUMN b INT -- to the end
;
INSERT INTO t VALUES (1, 1);
/*!50100 ALTER TABLE t ADD COLUMN c INT */;
INSERT INTO t VALUES (2, 2, 2);
/*!99999 this is no SQL at all */;
ALTER TABLE t COMMENT = 'ADD COLUMN x INT; DROP TABLE t; `';
ALTER TABLE t ADD d VARCHAR(9) DEFAULT 'a;b' # the end
;
INSERT INTO t (id) VALUES (3);
