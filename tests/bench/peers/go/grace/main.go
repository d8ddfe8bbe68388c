// A net/http server under facebookgo/grace: USR2 starts a new process with the listener. The new process terminates the old
// process when it serves.
package main

import (
	"io"
	"log"
	"net/http"
	"os"

	"github.com/facebookgo/grace/gracehttp"
)

func main() {
	err := gracehttp.Serve(&http.Server{
		Addr: os.Args[1],
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "Hello, world!")
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
}
