// Package sctp is as much of github.com/ishidawataru/sctp as agnhost asks for, for kernels without SCTP: associations (RFC 9260) of one message each way,
// over raw sockets. Nothing is sent again, and nothing is acknowledged but the association; the packets are those that rules and conntrack see.
package sctp

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand"
	"net"
	"os"
	"strconv"
	"time"
)

const (
	number      = "132"
	header      = 12
	maxPacket   = 65536
	firstPort   = 32768
	lastPort    = 60999
	backlog     = 64
	chunkData   = 0
	chunkInit   = 1
	initAck     = 2
	chunkAbort  = 6
	cookieEcho  = 10
	cookieAck   = 11
	wholeInData = 3
	stateCookie = 7
)

type SCTPAddr struct {
	IPAddrs []net.IPAddr
	Port    int
}

func (a *SCTPAddr) Network() string { return "sctp" }

func (a *SCTPAddr) String() string {
	host := ""
	if len(a.IPAddrs) > 0 {
		host = a.IPAddrs[0].String()
	}
	return net.JoinHostPort(host, strconv.Itoa(a.Port))
}

func ResolveSCTPAddr(_, text string) (*SCTPAddr, error) {
	found, err := net.ResolveTCPAddr("tcp", text)
	if err != nil {
		return nil, err
	}
	return &SCTPAddr{IPAddrs: []net.IPAddr{{IP: found.IP, Zone: found.Zone}}, Port: found.Port}, nil
}

type SCTPConn struct {
	socket        *net.IPConn
	peer          net.IP
	local, remote uint16
	ours, theirs  uint32
	sent          uint32
	texts         chan []byte
	deadline      time.Time
	isClient      bool
}

// DialSCTP returns when the other end has taken up the association, or never.
func DialSCTP(_ string, _, to *SCTPAddr) (*SCTPConn, error) {
	socket, err := net.DialIP("ip:"+number, nil, &to.IPAddrs[0])
	if err != nil {
		return nil, err
	}
	c := &SCTPConn{
		socket: socket, remote: uint16(to.Port), local: uint16(firstPort + rand.Intn(lastPort-firstPort)),
		ours: rand.Uint32() | 1, texts: make(chan []byte, backlog), isClient: true,
	}
	if err := c.send(chunkInit, 0, initOf(c.ours)); err != nil {
		return nil, err
	}
	up := make(chan error, 1)
	go func() {
		err := listen(socket, func(_ net.IP, packet []byte) {
			if at(packet, 0) != c.remote || at(packet, 2) != c.local {
				return
			}
			switch value := packet[header+4:]; packet[header] {
			case initAck:
				c.theirs = binary.BigEndian.Uint32(value)
				_ = c.send(cookieEcho, 0, value[20:24])
			case cookieAck:
				up <- nil
			default:
				c.take(packet)
			}
		})
		up <- err
	}()
	return c, <-up
}

func (c *SCTPConn) Write(text []byte) (int, error) {
	c.sent++
	value := binary.BigEndian.AppendUint32(nil, c.sent)
	// Stream, its sequence number, what the payload is.
	value = append(append(value, make([]byte, 8)...), text...)
	return len(text), c.send(chunkData, wholeInData, value)
}

func (c *SCTPConn) Read(into []byte) (int, error) {
	var late <-chan time.Time
	if !c.deadline.IsZero() {
		late = time.After(time.Until(c.deadline))
	}
	select {
	case text := <-c.texts:
		return copy(into, text), nil
	case <-late:
		return 0, os.ErrDeadlineExceeded
	}
}

func (c *SCTPConn) SetReadDeadline(when time.Time) error {
	c.deadline = when
	return nil
}

func (c *SCTPConn) SCTPRemoteAddr(int) (*SCTPAddr, error) {
	return &SCTPAddr{IPAddrs: []net.IPAddr{{IP: c.peer}}, Port: int(c.remote)}, nil
}

// Close of the end that began ends the association.
func (c *SCTPConn) Close() error {
	if !c.isClient {
		return nil
	}
	_ = c.send(chunkAbort, 0, nil)
	return c.socket.Close()
}

func (c *SCTPConn) take(packet []byte) {
	length := int(at(packet, header+2))
	if packet[header] != chunkData || length < 16 || header+length > len(packet) {
		return
	}
	select {
	case c.texts <- append([]byte(nil), packet[header+16:header+length]...):
	default:
	}
}

func (c *SCTPConn) send(kind, flags byte, value []byte) error {
	packet := binary.BigEndian.AppendUint16(nil, c.local)
	packet = binary.BigEndian.AppendUint16(packet, c.remote)
	packet = binary.BigEndian.AppendUint32(packet, c.theirs)
	packet = append(packet, 0, 0, 0, 0, kind, flags)
	packet = binary.BigEndian.AppendUint16(packet, uint16(4+len(value)))
	packet = append(packet, value...)
	packet = append(packet, make([]byte, -len(packet)&3)...)
	binary.LittleEndian.PutUint32(packet[8:], crc32.Checksum(packet, crc32.MakeTable(crc32.Castagnoli)))
	var err error
	if c.isClient {
		_, err = c.socket.Write(packet)
	} else {
		_, err = c.socket.WriteToIP(packet, &net.IPAddr{IP: c.peer})
	}
	return err
}

type SCTPListener struct {
	sockets  []*net.IPConn
	accepted chan *SCTPConn
}

// ListenSCTP listens at all addresses.
func ListenSCTP(_ string, at *SCTPAddr) (*SCTPListener, error) {
	l := &SCTPListener{accepted: make(chan *SCTPConn, backlog)}
	for _, family := range []string{"ip4:", "ip6:"} {
		socket, err := net.ListenIP(family+number, nil)
		if err != nil {
			return nil, err
		}
		l.sockets = append(l.sockets, socket)
		go l.serve(socket, uint16(at.Port))
	}
	return l, nil
}

func (l *SCTPListener) serve(socket *net.IPConn, port uint16) {
	open := map[string]*SCTPConn{}
	_ = listen(socket, func(from net.IP, packet []byte) {
		if at(packet, 2) != port {
			return
		}
		remote := at(packet, 0)
		key := net.JoinHostPort(from.String(), strconv.Itoa(int(remote)))
		c := open[key]
		switch kind := packet[header]; {
		case kind == chunkInit:
			c = &SCTPConn{
				socket: socket, peer: from, local: port, remote: remote, ours: rand.Uint32() | 1,
				theirs: binary.BigEndian.Uint32(packet[header+4:]), texts: make(chan []byte, backlog),
			}
			open[key] = c
			_ = c.send(initAck, 0, append(initOf(c.ours), 0, stateCookie, 0, 8, 1, 2, 3, 4))
		case c == nil:
		case kind == cookieEcho:
			_ = c.send(cookieAck, 0, nil)
			l.accepted <- c
		case kind == chunkAbort:
			delete(open, key)
		default:
			c.take(packet)
		}
	})
}

func (l *SCTPListener) AcceptSCTP() (*SCTPConn, error) {
	c, ok := <-l.accepted
	if !ok {
		return nil, errors.New("closed")
	}
	return c, nil
}

func (l *SCTPListener) Close() error {
	for _, socket := range l.sockets {
		_ = socket.Close()
	}
	return nil
}

// Tag, window, streams out and in, first number.
func initOf(tag uint32) []byte {
	value := binary.BigEndian.AppendUint32(nil, tag)
	return append(value, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1)
}

// What comes, from its SCTP header on, if its first chunk is whole.
func listen(socket *net.IPConn, heard func(from net.IP, packet []byte)) error {
	buffer := make([]byte, maxPacket)
	for {
		n, from, err := socket.ReadFromIP(buffer)
		if err != nil {
			return err
		}
		if n < header+4 {
			continue
		}
		packet := buffer[:n]
		least := map[byte]int{chunkInit: 20, initAck: 28}[packet[header]]
		if n >= header+least {
			heard(from.IP, packet)
		}
	}
}

func at(packet []byte, offset int) uint16 { return binary.BigEndian.Uint16(packet[offset:]) }
