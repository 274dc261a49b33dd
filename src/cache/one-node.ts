import { Cluster, type Redis } from 'ioredis'

/**
 * The Redis itself, or one of a cluster's nodes, the same as long as it is there. All nodes pass on
 * what is published to any of them, but what goes by different ones arrives in no order.
 * @throws Error when no node is known.
 */
export function oneNode(client: Redis | Cluster): () => Redis {
  if (!(client instanceof Cluster)) return () => client
  let node: Redis | undefined
  return () => {
    if (node?.status === 'ready') return node
    const nodes = client.nodes('master')
    const connected = nodes.filter(({ status }) => status === 'ready')
    const choice = connected.length > 0 ? connected : nodes
    node = choice[Math.floor(Math.random() * choice.length)]
    if (!node) throw new Error('no node of the cluster is known')
    return node
  }
}
