import { render } from 'preact'
import './styles/main.css'
import { Page } from './page.js'
import { Store, StoreProvider } from './store/store.js'

render(
  <StoreProvider value={new Store()}>
    <Page />
  </StoreProvider>,
  document.body,
)
