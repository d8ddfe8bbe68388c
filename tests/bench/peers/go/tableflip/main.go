// A net/http server that passes its listener to a new process with cloudflare/tableflip, as the library's documentation
// shows: HUP starts the new process; the old process calls Server.Shutdown when the new process is ready.
package main

import (
	"context"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"
)

func main() {
	upgrader, err := tableflip.New(tableflip.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer upgrader.Stop()
	go func() {
		hup := make(chan os.Signal, 1)
		signal.Notify(hup, syscall.SIGHUP)
		for range hup {
			if err := upgrader.Upgrade(); err != nil {
				log.Println(err)
			}
		}
	}()
	listener, err := upgrader.Fds.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "Hello, world!")
	})}
	go server.Serve(listener)
	if err := upgrader.Ready(); err != nil {
		log.Fatal(err)
	}
	<-upgrader.Exit()
	deadline, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	server.Shutdown(deadline)
}
