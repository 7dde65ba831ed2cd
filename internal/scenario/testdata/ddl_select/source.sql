CREATE TABLE a (id int PRIMARY KEY, v varchar(20));
INSERT INTO a VALUES (1, 'one'), (2, 'two');
--! on 9.7 maria
CREATE TABLE b AS SELECT id, CONCAT(v, '!') AS w FROM a;
CREATE TABLE c (PRIMARY KEY (id)) SELECT * FROM a WHERE id > 1;
INSERT INTO c VALUES (7, 'seven');
UPDATE b SET w = 'x' WHERE id = 1;
--! all
INSERT INTO a VALUES (3, 'three');
