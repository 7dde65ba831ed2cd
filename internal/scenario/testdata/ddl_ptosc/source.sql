CREATE TABLE users (id int unsigned NOT NULL AUTO_INCREMENT, name varchar(40), PRIMARY KEY (id)) DEFAULT CHARSET=utf8mb4;
INSERT INTO users (name) VALUES ('a'), ('b'), ('c');
CREATE TABLE `ddl_ptosc`.`_users_new` (
  `id` int unsigned NOT NULL AUTO_INCREMENT,
  `name` varchar(40) DEFAULT NULL,
  PRIMARY KEY (`id`)
) DEFAULT CHARSET=utf8mb4;
ALTER TABLE `ddl_ptosc`.`_users_new` ADD age int NOT NULL DEFAULT 1;
CREATE TRIGGER `pt_osc_ddl_ptosc_users_del` AFTER DELETE ON `ddl_ptosc`.`users` FOR EACH ROW DELETE IGNORE FROM `ddl_ptosc`.`_users_new` WHERE `ddl_ptosc`.`_users_new`.`id` <=> OLD.`id`;
CREATE TRIGGER `pt_osc_ddl_ptosc_users_upd` AFTER UPDATE ON `ddl_ptosc`.`users` FOR EACH ROW REPLACE INTO `ddl_ptosc`.`_users_new` (`id`, `name`) VALUES (NEW.`id`, NEW.`name`);
CREATE TRIGGER `pt_osc_ddl_ptosc_users_ins` AFTER INSERT ON `ddl_ptosc`.`users` FOR EACH ROW REPLACE INTO `ddl_ptosc`.`_users_new` (`id`, `name`) VALUES (NEW.`id`, NEW.`name`);
INSERT LOW_PRIORITY IGNORE INTO `ddl_ptosc`.`_users_new` (`id`, `name`) SELECT `id`, `name` FROM `ddl_ptosc`.`users` LOCK IN SHARE MODE;
UPDATE users SET name = 'bb' WHERE id = 2;
DELETE FROM users WHERE id = 3;
INSERT INTO users (name) VALUES ('meanwhile');
ANALYZE TABLE `ddl_ptosc`.`_users_new`;
RENAME TABLE `ddl_ptosc`.`users` TO `ddl_ptosc`.`_users_old`, `ddl_ptosc`.`_users_new` TO `ddl_ptosc`.`users`;
DROP TABLE IF EXISTS `ddl_ptosc`.`_users_old`;
DROP TRIGGER IF EXISTS `ddl_ptosc`.`pt_osc_ddl_ptosc_users_del`;
DROP TRIGGER IF EXISTS `ddl_ptosc`.`pt_osc_ddl_ptosc_users_upd`;
DROP TRIGGER IF EXISTS `ddl_ptosc`.`pt_osc_ddl_ptosc_users_ins`;
INSERT INTO users (name, age) VALUES ('after', 30);
