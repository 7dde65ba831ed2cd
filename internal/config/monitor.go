package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Monitor is the page and the API of the running pipeline. Without the section
// there is none.
type Monitor struct {
	Listen string        `yaml:"listen"` // default: 127.0.0.1:8080
	Users  []MonitorUser `yaml:"users"`
	TLS    MonitorTLS    `yaml:"tls"`
	Hosts  []string      `yaml:"hosts"`
	MaxLag time.Duration `yaml:"max_lag"`
	Audit  string        `yaml:"audit"` // a file

	// ExitOnError makes the process end when the pipeline is stopped by an error,
	// instead of showing it until somebody starts the pipeline again.
	ExitOnError bool `yaml:"exit_on_error"`
}

// A MonitorUser may open the monitor.
type MonitorUser struct {
	Name     string `yaml:"name"`
	Password Secret `yaml:"password"`
	ReadOnly bool   `yaml:"read_only"`
}

// MonitorTLS names the files of the monitor's certificate and its key.
type MonitorTLS struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`

	config *tls.Config
}

// Config returns how the monitor encrypts, or nil if it does not.
func (t *MonitorTLS) Config() *tls.Config { return t.config }

// On reports whether there is to be a monitor.
func (m *Monitor) On() bool { return m.Listen != "" }

// minPassword is the least length of a password, as package monitor has it.
const minPassword = 8

func (m *Monitor) check(d *decoder, dir string) {
	if d.lines["monitor"] == 0 {
		return
	}
	if m.Listen == "" {
		m.Listen = "127.0.0.1:8080"
	}
	m.Audit = resolve(dir, m.Audit)
	if _, _, err := net.SplitHostPort(m.Listen); err != nil && !d.faulty(d.lines["monitor.listen"]) {
		d.fault(d.lines["monitor.listen"], "monitor.listen is %q; want an address and a port, such as 127.0.0.1:8080 or :8080", d.texts["monitor.listen"])
	}
	for i, u := range m.Users {
		path := fmt.Sprintf("monitor.users[%d]", i)
		line := d.line(path)
		switch {
		case d.faulty(line) || d.faulty(d.line(path+".password")):
		case u.Name == "":
			d.fault(line, "%s has no name; give it one", path)
		case slices.ContainsFunc(m.Users[:i], func(o MonitorUser) bool { return o.Name == u.Name }):
			d.fault(line, "monitor.users has the name %q twice; keep one", d.texts[path+".name"])
		case len(u.Password) < minPassword:
			d.fault(d.line(path+".password"), "%s.password has less than %d bytes; choose a longer one", path, minPassword)
		}
	}
	m.TLS.Cert, m.TLS.Key = resolve(dir, m.TLS.Cert), resolve(dir, m.TLS.Key)
	line := d.line("monitor.tls")
	switch {
	case m.TLS.Cert == "" && m.TLS.Key == "":
	case m.TLS.Cert == "" || m.TLS.Key == "":
		d.fault(line, "monitor.tls needs both cert and key")
	default:
		pair, err := tls.LoadX509KeyPair(m.TLS.Cert, m.TLS.Key)
		if err != nil {
			d.fault(line, "monitor.tls: %v; name a certificate and its key, both in PEM", err)
		}
		m.TLS.config = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
}

// Secrets returns what must never be shown, of all parts.
func (c *Config) Secrets() []string {
	list := []string{string(c.HashKey)}
	list = append(list, string(c.Source.Archive.Key), string(c.Source.Archive.SecretKey))
	dsns := []string{c.SourceDSN()}
	for _, l := range c.Lines() {
		dsns = append(dsns, l.TargetDSN())
		list = append(list, string(l.Target.Stream.Secret), string(l.Target.Archive.Key), string(l.Target.Archive.SecretKey))
		if u, err := url.Parse(l.Target.Stream.place); err == nil && u.User != nil {
			password, _ := u.User.Password()
			list = append(list, password)
		}
	}
	for _, dsn := range dsns {
		if dsn == "" {
			continue // files have none
		}
		if isPostgres(dsn) {
			if u, err := url.Parse(dsn); err == nil && u.User != nil {
				password, _ := u.User.Password()
				list = append(list, password)
			}
		} else if p, err := mysql.ParseDSN(dsn); err == nil {
			list = append(list, p.Passwd)
		}
	}
	for _, u := range c.Monitor.Users {
		list = append(list, string(u.Password))
	}
	for _, dsn := range c.Source.Snapshot.Replicas {
		if p, err := mysql.ParseDSN(string(dsn)); err == nil {
			list = append(list, p.Passwd)
		}
	}
	return list
}

// Trust returns how to call a monitor that serves with this certificate: it and
// no other is trusted, by whatever name it is called.
func (t *MonitorTLS) Trust() *tls.Config {
	own := t.config.Certificates[0].Certificate[0]
	return &tls.Config{
		InsecureSkipVerify: true, // VerifyConnection is stricter
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || !slices.Equal(s.PeerCertificates[0].Raw, own) {
				return errors.New("the monitor's certificate is not the one in the file")
			}
			return nil
		},
	}
}
