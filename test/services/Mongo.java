import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import java.net.InetSocketAddress;
import java.util.List;

/** MongoDB's protocol over a file: java -cp 'lib/*' Mongo.java PORT FILE */
public class Mongo {
  /** What the driver wants to be told: the server's own answer is older than it takes. */
  private static final MongoVersion VERSION = new MongoVersion() {
    @Override
    public List<Integer> getVersionArray() {
      return List.of(7, 0, 0);
    }

    @Override
    public int getWireVersion() {
      return 21;
    }
  };

  public static void main(String[] arguments) throws InterruptedException {
    var server = new MongoServer(new H2Backend(arguments[1]).version(VERSION));
    server.bind(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])));
    Runtime.getRuntime().addShutdownHook(new Thread(server::shutdownNow));
    System.out.println("listening on " + server.getLocalAddress());
    Thread.currentThread().join();
  }
}
