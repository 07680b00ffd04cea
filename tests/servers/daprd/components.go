package main

import (
	"context"

	"github.com/dapr/components-contrib/bindings"
	bindingcron "github.com/dapr/components-contrib/bindings/cron"
	bindinghttp "github.com/dapr/components-contrib/bindings/http"
	bindingkafka "github.com/dapr/components-contrib/bindings/kafka"
	bindingmqtt "github.com/dapr/components-contrib/bindings/mqtt3"
	bindingrabbitmq "github.com/dapr/components-contrib/bindings/rabbitmq"
	bindingredis "github.com/dapr/components-contrib/bindings/redis"
	"github.com/dapr/components-contrib/nameresolution"
	pubsubmemory "github.com/dapr/components-contrib/pubsub/in-memory"
	pubsubjetstream "github.com/dapr/components-contrib/pubsub/jetstream"
	pubsubkafka "github.com/dapr/components-contrib/pubsub/kafka"
	pubsubmqtt "github.com/dapr/components-contrib/pubsub/mqtt3"
	pubsubrabbitmq "github.com/dapr/components-contrib/pubsub/rabbitmq"
	pubsubredis "github.com/dapr/components-contrib/pubsub/redis"
	statememory "github.com/dapr/components-contrib/state/in-memory"
	postgres1 "github.com/dapr/components-contrib/state/postgresql/v1"
	postgres2 "github.com/dapr/components-contrib/state/postgresql/v2"
	stateredis "github.com/dapr/components-contrib/state/redis"
	"github.com/dapr/dapr/pkg/components"
	bindingsLoader "github.com/dapr/dapr/pkg/components/bindings"
	nrLoader "github.com/dapr/dapr/pkg/components/nameresolution"
	pubsubLoader "github.com/dapr/dapr/pkg/components/pubsub"
	stateLoader "github.com/dapr/dapr/pkg/components/state"
	wfbeLoader "github.com/dapr/dapr/pkg/components/wfbackend"
	"github.com/dapr/dapr/pkg/runtime/wfengine/backends/actors"
	"github.com/dapr/kit/logger"
)

// A binding that reads and writes is registered once for each direction.
func both[B bindings.InputOutputBinding](create func(logger.Logger) B, names ...string) {
	bindingsLoader.DefaultRegistry.RegisterInputBinding(
		func(log logger.Logger) bindings.InputBinding { return create(log) }, names...)
	bindingsLoader.DefaultRegistry.RegisterOutputBinding(
		func(log logger.Logger) bindings.OutputBinding { return create(log) }, names...)
}

// nowhere resolves no name: service invocation is not used, and mdns, the
// default, announces itself on the network.
type nowhere struct{}

func (nowhere) Init(context.Context, nameresolution.Metadata) error { return nil }
func (nowhere) Close() error                                        { return nil }
func (nowhere) ResolveID(_ context.Context, request nameresolution.ResolveRequest) (string, error) {
	return "127.0.0.1:1", nil
}

func register() {
	bindingsLoader.DefaultRegistry.RegisterInputBinding(bindingcron.NewCron, "cron")
	bindingsLoader.DefaultRegistry.RegisterOutputBinding(bindinghttp.NewHTTP, "http")
	bindingsLoader.DefaultRegistry.RegisterOutputBinding(bindingredis.NewRedis, "redis")
	both(bindingkafka.NewKafka, "kafka")
	both(bindingmqtt.NewMQTT, "mqtt3", "mqtt")
	both(bindingrabbitmq.NewRabbitMQ, "rabbitmq")

	pubsubLoader.DefaultRegistry.RegisterComponent(pubsubmemory.New, "in-memory")
	pubsubLoader.DefaultRegistry.RegisterComponent(pubsubjetstream.NewJetStream, "jetstream")
	pubsubLoader.DefaultRegistry.RegisterComponent(pubsubkafka.NewKafka, "kafka")
	pubsubLoader.DefaultRegistry.RegisterComponent(pubsubmqtt.NewMQTTPubSub, "mqtt3", "mqtt")
	pubsubLoader.DefaultRegistry.RegisterComponent(pubsubrabbitmq.NewRabbitMQ, "rabbitmq")
	pubsubLoader.DefaultRegistry.RegisterComponent(pubsubredis.NewRedisStreams, "redis")

	stateLoader.DefaultRegistry.RegisterComponent(statememory.NewInMemoryStateStore, "in-memory")
	stateLoader.DefaultRegistry.RegisterComponent(stateredis.NewRedisStateStore, "redis")
	stateLoader.DefaultRegistry.RegisterComponentWithVersions("postgresql", components.Versioning{
		Preferred: components.VersionConstructor{
			Version: "v2", Constructor: postgres2.NewPostgreSQLStateStore,
		},
		Others: []components.VersionConstructor{
			{Version: "v1", Constructor: postgres1.NewPostgreSQLStateStore},
		},
		Default: "v1",
	})

	nrLoader.DefaultRegistry.RegisterComponent(
		func(logger.Logger) nameresolution.Resolver { return nowhere{} }, "mdns")
	// Started with every daprd, also where nobody asks for workflows.
	wfbeLoader.DefaultRegistry.RegisterComponent(actors.NewActorBackend, "actor", "actors")
}
