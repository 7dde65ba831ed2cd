CREATE TABLE a (id int PRIMARY KEY, name varchar(40) NOT NULL DEFAULT 'x', n int) DEFAULT CHARSET=utf8mb4;
INSERT INTO a VALUES (1, 'one', 1), (2, 'two', 2);
ALTER TABLE a ADD COLUMN at datetime NOT NULL DEFAULT '2020-01-02 03:04:05' AFTER id, ADD (b bit(3), c char(5)), ADD INDEX (n);
INSERT INTO a VALUES (3, '2024-01-01', 'three', 3, b'101', 'c');
UPDATE a SET n = n + 10;
ALTER TABLE a CHANGE n amount bigint, MODIFY name varchar(60) NOT NULL FIRST, DROP COLUMN c;
UPDATE a SET amount = 10000000000 WHERE id = 3;
INSERT INTO a (id, name, amount) VALUES (4, 'four', -1);
-- Two columns of one type get each other's names.
CREATE TABLE swap (id int PRIMARY KEY, x int, y int);
INSERT INTO swap VALUES (1, 10, 20);
ALTER TABLE swap CHANGE x y int, CHANGE y x int;
INSERT INTO swap (id, x, y) VALUES (2, 30, 40);
ALTER TABLE a ALTER COLUMN name SET DEFAULT 'it''s', ADD UNIQUE INDEX u (name(10)), DROP INDEX n;
ALTER TABLE a CONVERT TO CHARACTER SET latin1;
INSERT INTO a (id) VALUES (5);
ALTER TABLE a DROP PRIMARY KEY, ADD PRIMARY KEY (name, id), COMMENT = 'a `quoted`; comment', ENGINE = InnoDB;
UPDATE a SET id = 6 WHERE id = 5;
/* a comment first */ ALTER /*!50100 TABLE */ a -- and one within
  ADD z int /* last */;
INSERT INTO a (id, name, z) VALUES (7, 'seven', 7);
TRUNCATE a;
INSERT INTO a (id, name, z) VALUES (8, 'eight', 8);
